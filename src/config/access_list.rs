//! Who may read, publish to or control a path, as the configuration says it.
//!
//! ```text
//!  publish = ["loopback"]               this host          read = ["any"]      everyone
//!  publish = ["10.0.0.0/8", "::1"]      networks and addresses; "private" is those of RFC 1918
//!  read = ["users"]                     every user of the file, by name and password
//!  read = ["user:ann", "user:kiosk@10.0.0.0/8"]    one user; one user from one network
//!  read = ["jwt", "webhook"]            bearers of a token; who the webhook lets in
//!  publish = []                         nobody             "auto": see `AccessList::resolve`
//! ```
//! A client may do what one of the entries allows. `access::rules` judges clients by it. Bound:
//! `ENTRIES_MAX`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::access::is_user_name;
use super::value_error::ValueError;

/// Clients that may do something with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessList(Option<Vec<Entry>>);

/// Some clients: one entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who they are.
    pub who: Who,
    /// Where they come from.
    pub from: Place,
}

/// How clients of an entry are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// They need not say who they are.
    Anyone,
    /// Any user of the configuration, with the password.
    Users,
    /// One of these users.
    User(Arc<str>),
    /// Bearers of a token that has the permission.
    Jwt,
    /// Those whom the webhook lets in.
    Webhook,
}

/// Where clients of an entry come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere.
    Anywhere,
    /// This host.
    Loopback,
    /// Networks of private addresses.
    Private,
    /// A network, or one address. Never of IPv4 addresses mapped into IPv6.
    Network(IpNet),
}

/// What stands for a list that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// There are users.
    pub users: bool,
    /// Tokens can be checked.
    pub jwt: bool,
    /// There is a webhook for the action.
    pub webhook: bool,
}

impl AccessList {
    /// A list that says nothing: see [`Self::resolve`].
    pub const AUTO: Self = Self(None);

    /// Reads the list.
    ///
    /// # Errors
    /// One that is neither a word nor a network, or too many.
    pub fn parse(texts: &[&str]) -> Result<Self, ValueError> {
        if texts == [AUTO] {
            return Ok(Self::AUTO);
        }
        if texts.len() > ENTRIES_MAX {
            return Err(ValueError::TooMany { found: texts.len(), max: ENTRIES_MAX });
        }
        texts.iter().map(|text| Entry::parse(text)).collect::<Result<_, _>>().map(Some).map(Self)
    }

    /// A list that nobody is on.
    #[must_use]
    pub fn nobody() -> Self {
        Self(Some(Vec::new()))
    }

    /// A list that everyone is on.
    #[must_use]
    pub fn everyone() -> Self {
        Self::of(Place::Anywhere)
    }

    /// Those who come from somewhere, whoever they are.
    #[must_use]
    pub fn of(from: Place) -> Self {
        Self(Some(vec![Entry { who: Who::Anyone, from }]))
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.0.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_auto(&self) -> bool {
        self.0.is_none()
    }

    /// The entries, in the order of the file; none of a list that says nothing.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().flatten()
    }

    /// What counts in place of `auto`: whoever shows what can be checked. Where nothing can be
    /// checked, because there are neither users nor tokens nor a webhook, it is `otherwise`.
    #[must_use]
    pub fn resolve(&self, known: Known, otherwise: Place) -> Vec<Entry> {
        if let Some(entries) = &self.0 {
            return entries.clone();
        }
        let ways =
            [(known.users, Who::Users), (known.jwt, Who::Jwt), (known.webhook, Who::Webhook)];
        let entry = |who| Entry { who, from: Place::Anywhere };
        let checked: Vec<Entry> =
            ways.into_iter().filter(|(is_there, _)| *is_there).map(|(_, who)| entry(who)).collect();
        if checked.is_empty() { vec![Entry { who: Who::Anyone, from: otherwise }] } else { checked }
    }

    /// Whether there is nobody who may not, without saying who he is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entries().any(|entry| {
            let is_everywhere = match entry.from {
                Place::Anywhere => true,
                Place::Network(network) => network.prefix_len() == 0,
                Place::Loopback | Place::Private => false,
            };
            entry.who == Who::Anyone && is_everywhere
        })
    }

    /// Users that are named.
    pub fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries().filter_map(|entry| match &entry.who {
            Who::User(name) => Some(name),
            Who::Anyone | Who::Users | Who::Jwt | Who::Webhook => None,
        })
    }

    /// Words, users and networks, as configuration spells them.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match &self.0 {
            None => vec![AUTO.to_owned()],
            Some(entries) => entries.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, ValueError> {
        if let Some(from) = Place::parse(text)? {
            return Ok(Self { who: Who::Anyone, from });
        }
        let refused = || ValueError::AccessEntry { text: text.to_owned() };
        let (who, from) = match text.rsplit_once('@') {
            Some((who, from)) => (who, Place::parse(from)?.ok_or_else(refused)?),
            None => (text, Place::Anywhere),
        };
        let who = match who {
            "users" => Who::Users,
            "jwt" => Who::Jwt,
            "webhook" => Who::Webhook,
            _ => {
                let name = who.strip_prefix("user:").filter(|name| is_user_name(name));
                Who::User(name.ok_or_else(refused)?.into())
            }
        };
        Ok(Self { who, from })
    }
}

impl Place {
    /// `None` for what is neither a word nor a network.
    fn parse(text: &str) -> Result<Option<Self>, ValueError> {
        match text {
            "loopback" => return Ok(Some(Self::Loopback)),
            "private" => return Ok(Some(Self::Private)),
            "any" => return Ok(Some(Self::Anywhere)),
            _ => {}
        }
        let address = text.parse::<IpAddr>().map(IpNet::from).ok();
        // Clients with an IPv4 address are known by it, however they came.
        let is_mapped = |network: &IpNet| match network.addr() {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
        };
        let network = address.or_else(|| text.parse().ok()).filter(|network| !is_mapped(network));
        let Some(network) = network else { return Ok(None) };
        if network.addr() != network.network() {
            let (text, network) = (text.to_owned(), network.trunc());
            return Err(ValueError::NetworkBits { text, network });
        }
        Ok(Some(Self::Network(network)))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Anyone => return write!(f, "{}", self.from),
            Who::Users => f.write_str("users")?,
            Who::User(name) => write!(f, "user:{name}")?,
            Who::Jwt => f.write_str("jwt")?,
            Who::Webhook => f.write_str("webhook")?,
        }
        if self.from == Place::Anywhere { Ok(()) } else { write!(f, "@{}", self.from) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("any"),
            Self::Loopback => f.write_str("loopback"),
            Self::Private => f.write_str("private"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}

/// A list that says nothing.
const AUTO: &str = "auto";
/// A network for each site of a company, and a user for each of its machines.
const ENTRIES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn list(texts: &[&str]) -> AccessList {
        AccessList::parse(texts).unwrap()
    }

    #[test]
    fn list_without_end_is_open_and_others_are_not() {
        for open in [&["any"][..], &["loopback", "0.0.0.0/0"], &["::/0"], &["users", "any"]] {
            assert!(list(open).is_open(), "{open:?}");
        }
        for closed in [
            &["private"][..],
            &[],
            &["10.0.0.0/8"],
            &["auto"],
            &["users"],
            &["user:a@0.0.0.0/0"],
            &["jwt", "webhook"],
        ] {
            assert!(!list(closed).is_open(), "{closed:?}");
        }
    }

    #[test]
    fn list_that_says_nothing_is_for_whoever_can_be_checked() {
        let texts = |users, jwt, webhook, otherwise| {
            let entries = AccessList::AUTO.resolve(Known { users, jwt, webhook }, otherwise);
            entries.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(texts(false, false, false, Place::Anywhere), "any");
        assert_eq!(texts(false, false, false, Place::Loopback), "loopback");
        assert_eq!(texts(true, false, false, Place::Loopback), "users");
        assert_eq!(texts(true, true, true, Place::Anywhere), "users jwt webhook");
        let said = list(&["10.0.0.0/8"]);
        let known = Known { users: true, jwt: true, webhook: true };
        assert_eq!(said.resolve(known, Place::Anywhere).len(), 1, "what is said counts");
        assert!(list(&[]).resolve(known, Place::Anywhere).is_empty());
    }

    #[test]
    fn what_is_no_entry_is_refused_with_the_reason() {
        let refuse = |text: &str| AccessList::parse(&[text]).unwrap_err().to_string();
        let errors = [
            "localhost",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "",
            "::ffff:10.0.0.0/104",
            "user:",
            "user:a b",
            "users@10.0.0.1/8",
            "users@nowhere",
            "ann",
        ];
        insta::assert_snapshot!(errors.map(refuse).join("\n"), @r"
        `localhost` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `10.0.0.1/8` has bits beyond its prefix; write 10.0.0.0/8
        `10.0.0.0/33` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `::ffff:10.0.0.0/104` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `user:` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `user:a b` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `10.0.0.1/8` has bits beyond its prefix; write 10.0.0.0/8
        `users@nowhere` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        `ann` is none of loopback, private, any, 10.0.0.0/8, users, user:NAME, user:NAME@10.0.0.0/8, jwt, webhook
        ");
        assert!(AccessList::parse(&["any"; 65]).is_err());
    }

    proptest! {
        #[test]
        fn shown_lists_read_back(
            bits in any::<u32>(), prefix in 0u8..=32, name in "[a-zA-Z0-9._-]{1,20}",
        ) {
            let network = Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc().to_string();
            let (user, there) = (format!("user:{name}"), format!("user:{name}@{network}"));
            let list = list(&[&network, "loopback", "users@private", &user, &there, "jwt"]);
            let texts = list.texts();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            prop_assert_eq!(AccessList::parse(&texts), Ok(list));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(
            text in "\\PC{0,20}|[0-9./:a-f]{0,20}|user:[a-z@.0-9/]{0,20}",
        ) {
            let _ = AccessList::parse(&[&text]);
        }
    }
}
