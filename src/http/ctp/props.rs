//! Attributes of files and folders as properties of WebDAV: told by PROPFIND, set by PROPPATCH.
//!
//! ```text
//! urn:headend:ctp     mode (octal), mtime-ns, content, blake3    the first two can be set
//! urn:headend:xattr   NAME                                       extended attribute user.NAME
//! DAV:                getlastmodified, lastmodified (rclone)     can be set: time of last change
//! apache, microsoft   executable, Win32LastModifiedTime          can be set
//! owncloud            checksums                                  of uploads whose client named one
//! any other NS        NAME                                       extended attribute user.{NS}NAME
//! ```
//! A PROPPATCH is one command, or none: properties are set together (RFC 4918 s9.2).
//! Bounds: a body of `BODY_BYTES_MAX`, elements `DEPTH_MAX` deep; the book limits attributes.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dav_server::davpath::DavPath;
use dav_server::fs::DavProp;
use xml::reader::{EventReader, XmlEvent};
use xmltree::{Element, XMLNode};

use super::checksum::Checksum;
use super::place::Place;
use super::said::seconds_as_ns;
use super::tree::Node;
use super::{Ctp, lock, problem};
use crate::dist::ids::ContentId;
use crate::dist::wire::job::{Attributes, CommandRequest, Op};
use crate::dist::wire::peer::ContentEnd;
use crate::http::problem::Problem;

/// What properties are made from.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) attrs: Attributes,
    pub(super) content: Option<ContentId>,
    pub(super) end: Option<ContentEnd>,
    pub(super) checksums: Vec<Checksum>,
}

/// All properties of ours. `with_values` is false when only names are asked for.
pub(super) fn all(facts: &Facts, with_values: bool) -> Vec<DavProp> {
    let own = ["mode", "mtime-ns", "content", "blake3"].map(|name| (CTP, name.to_owned()));
    let named = facts.attrs.xattr.keys().filter_map(|name| name_of_xattr(name));
    let names: Vec<(&str, String)> = own.into_iter().chain(named).collect();
    let prop = |(namespace, name): (&str, String)| {
        let xml = one(facts, Some(namespace), &name)?;
        let empty = format!("<x:{name} xmlns:x=\"{}\"/>", escaped(namespace));
        let xml = if with_values { xml } else { empty };
        let (prefix, namespace) = (Some("x".to_owned()), Some(namespace.to_owned()));
        Some(DavProp { name, prefix, namespace, xml: Some(xml.into_bytes()) })
    };
    names.into_iter().filter_map(prop).collect()
}

/// A property as XML.
pub(super) fn one(facts: &Facts, namespace: Option<&str>, name: &str) -> Option<String> {
    let namespace = namespace?;
    let attrs = &facts.attrs;
    let value = match (namespace, name) {
        (CTP, "mode") => format!("{:04o}", attrs.mode?),
        (CTP, "mtime-ns") => attrs.mtime_ns?.to_string(),
        (CTP, "content") => facts.content?.to_string(),
        (CTP, "blake3") => facts.end?.blake3.to_string(),
        (OWNCLOUD, "checksums") => {
            let words: Vec<String> = facts.checksums.iter().map(Checksum::to_string).collect();
            let words = Some(words.join(" ")).filter(|words| !words.is_empty())?;
            return Some(format!(
                "<oc:checksums xmlns:oc=\"{OWNCLOUD}\"><oc:checksum>{words}</oc:checksum>\
                 </oc:checksums>"
            ));
        }
        _ => {
            let value = STANDARD
                .decode(attrs.xattr.get(&xattr_of_name(namespace, name))?.as_ref()?)
                .ok()?;
            String::from_utf8(value).ok()?
        }
    };
    let (namespace, value) = (escaped(namespace), escaped(&value));
    Some(format!("<x:{name} xmlns:x=\"{namespace}\">{value}</x:{name}>"))
}

/// Reads the body of a PROPFIND: whether it names the properties that it wants. The body of a LOCK
/// is checked only. Other requests have no XML and stay as they are.
pub(super) async fn read_names(request: Request) -> Result<(Request, bool), Problem> {
    let is_find = request.method().as_str() == "PROPFIND";
    if !is_find && request.method().as_str() != "LOCK" {
        return Ok((request, false));
    }
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    let names = |root: Element| root.get_child("prop").is_some();
    let is_naming = is_find && Element::parse(&body[..]).is_ok_and(names);
    Ok((Request::from_parts(parts, Body::from(body)), is_naming))
}

/// A property of a PROPPATCH, and what becomes of it.
struct Patch {
    namespace: String,
    name: String,
    /// `None`: it cannot be set, or not to this.
    sets: Option<Attributes>,
}

/// PROPPATCH.
pub(super) async fn patch(
    ctp: &Arc<Ctp>,
    client: &str,
    path: &DavPath,
    place: Place,
    request: Request,
) -> Result<Response, Problem> {
    let not_found = || Problem::not_found("there is no such file or folder");
    let Place::Within(job, place) = place else { return Err(not_found()) };
    if !ctp.locks.admits(path, client, request.headers()) {
        return Err(problem(StatusCode::LOCKED, "locked", "another client has locked it"));
    }
    let tree = ctp.tree(client, job).await?;
    let known = match lock(&tree).find(&place).ok_or_else(not_found)? {
        Node::Folder(folder) => folder.attrs.clone(),
        Node::File(file) => file.attrs.clone(),
    };
    let body = read(request.into_body()).await?;
    let patches = patches(&body, &known)?;
    let mut attrs = Attributes::default();
    let mut is_sound = true;
    for patch in &patches {
        let Some(sets) = &patch.sets else {
            is_sound = false;
            continue;
        };
        attrs.mode = sets.mode.or(attrs.mode);
        attrs.mtime_ns = sets.mtime_ns.or(attrs.mtime_ns);
        attrs.xattr.extend(sets.xattr.clone());
    }
    if is_sound && attrs != Attributes::default() {
        let op = Op::SetAttributes { path: place, attrs };
        let request = CommandRequest { op, size: None, blake3: None };
        let client = client.to_owned();
        ctp.try_ask(move |book, at| book.command(&client, job, request, at)).await?;
    }
    let mut response = Response::new(Body::from(answer(path, &patches, is_sound)));
    *response.status_mut() = StatusCode::MULTI_STATUS;
    let xml = HeaderValue::from_static("application/xml; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, xml);
    Ok(response)
}

/// How many properties the body of a PROPPATCH names; `None` where it is refused.
pub(super) fn count(body: &[u8]) -> Option<usize> {
    let is_taken = body.len() <= BODY_BYTES_MAX && is_shallow(body);
    is_taken.then(|| patches(body, &Attributes::default()).ok().map(|patches| patches.len()))?
}

fn patches(body: &[u8], known: &Attributes) -> Result<Vec<Patch>, Problem> {
    let wrong = || Problem::bad_request("the body is not a propertyupdate of DAV:");
    let root = Element::parse(body).map_err(|_| wrong())?;
    if root.name != "propertyupdate" {
        return Err(wrong());
    }
    let mut patches = Vec::new();
    for update in root.children.iter().filter_map(XMLNode::as_element) {
        let is_set = update.name == "set";
        let props = update.children.iter().filter_map(XMLNode::as_element);
        for prop in props.flat_map(|props| props.children.iter().filter_map(XMLNode::as_element)) {
            let namespace = prop.namespace.clone().unwrap_or_default();
            let value = prop.get_text().unwrap_or_default();
            let sets = match is_set {
                true => set(&namespace, &prop.name, value.trim(), known),
                false => removal(&namespace, &prop.name),
            };
            patches.push(Patch { namespace, name: prop.name.clone(), sets });
        }
    }
    Ok(patches)
}

/// What a property sets.
fn set(namespace: &str, name: &str, value: &str, known: &Attributes) -> Option<Attributes> {
    let mtime = |mtime_ns: Option<i64>| {
        mtime_ns.map(|ns| Attributes { mtime_ns: Some(ns), ..Attributes::default() })
    };
    let mode = |mode: u32| Attributes { mode: Some(mode), ..Attributes::default() };
    match (namespace, name) {
        (DAV, "getlastmodified") | (MICROSOFT, "Win32LastModifiedTime") => mtime(http_date(value)),
        (DAV, "lastmodified") => mtime(seconds_as_ns(value).or_else(|| http_date(value))),
        (CTP, "mtime-ns") => mtime(value.parse().ok()),
        (CTP, "mode") => {
            u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777).map(mode)
        }
        (APACHE, "executable") => {
            let old = known.mode.unwrap_or(MODE_DEFAULT);
            match value {
                // Who may read may run.
                "T" => Some(mode(old | (old & 0o444) >> 2)),
                "F" => Some(mode(old & !0o111)),
                _ => None,
            }
        }
        // Windows sets these with each copy, and gives up when it may not.
        (MICROSOFT, _) => Some(Attributes::default()),
        (DAV | CTP | APACHE, _) | (OWNCLOUD, "checksums") => None,
        _ => {
            let value = STANDARD.encode(value);
            let xattr = [(xattr_of_name(namespace, name), Some(value))].into();
            Some(Attributes { xattr, ..Attributes::default() })
        }
    }
}

/// What the removal of a property sets. Only extended attributes can be taken away; one that is not
/// there is taken away as well (RFC 4918 s9.2).
fn removal(namespace: &str, name: &str) -> Option<Attributes> {
    match namespace {
        DAV | CTP | APACHE | OWNCLOUD => None,
        MICROSOFT => Some(Attributes::default()),
        _ => {
            let xattr = [(xattr_of_name(namespace, name), None)].into();
            Some(Attributes { xattr, ..Attributes::default() })
        }
    }
}

fn answer(path: &DavPath, patches: &[Patch], is_sound: bool) -> String {
    let href = escaped(&path.with_prefix().as_url_string());
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\"><D:response>\
         <D:href>{href}</D:href>"
    );
    for Patch { namespace, name, sets } in patches {
        let status = match (sets, is_sound) {
            (Some(_), true) => "200 OK",
            (Some(_), false) => "424 Failed Dependency",
            (None, _) => "403 Forbidden",
        };
        let namespace = escaped(namespace);
        // To a string there is no error.
        let _never = write!(
            xml,
            "<D:propstat><D:prop><x:{name} xmlns:x=\"{namespace}\"/></D:prop>\
             <D:status>HTTP/1.1 {status}</D:status></D:propstat>"
        );
    }
    xml + "</D:response></D:multistatus>"
}

/// `user.NAME` or `user.{NS}NAME`.
fn xattr_of_name(namespace: &str, name: &str) -> String {
    match namespace {
        XATTR => format!("user.{name}"),
        _ => format!("user.{{{namespace}}}{name}"),
    }
}

/// `None` for names that XML has no element for.
fn name_of_xattr(xattr: &str) -> Option<(&str, String)> {
    let rest = xattr.strip_prefix("user.")?;
    let foreign = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let (namespace, name) = foreign.unwrap_or((XATTR, rest));
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_part = |c: char| is_start(c) || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_name = name.starts_with(is_start) && name.chars().all(is_part);
    is_name.then(|| (namespace, name.to_owned()))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as UTC nanoseconds.
fn http_date(text: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    i64::try_from(date.timestamp().as_nanosecond()).ok()
}

async fn read(body: Body) -> Result<axum::body::Bytes, Problem> {
    let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB, or ends early")
    })?;
    if is_shallow(&body) { Ok(body) } else { Err(Problem::bad_request(TOO_DEEP)) }
}

/// Whether elements stand in each other `DEPTH_MAX` deep at most. `xmltree` calls itself for each
/// level, here and in `dav-server`, and no stack holds the 20,000 that 64 KiB have room for.
fn is_shallow(body: &[u8]) -> bool {
    let mut depth = 0_usize;
    for event in EventReader::new(body) {
        match event {
            Ok(XmlEvent::StartElement { .. }) => depth += 1,
            Ok(XmlEvent::EndElement { .. }) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            // `xmltree` stops at the same place.
            Err(_) => return true,
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 has no such characters.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

const DAV: &str = "DAV:";
const CTP: &str = "urn:headend:ctp";
const XATTR: &str = "urn:headend:xattr";
const APACHE: &str = "http://apache.org/dav/props/";
const MICROSOFT: &str = "urn:schemas-microsoft-com:";
const OWNCLOUD: &str = "http://owncloud.org/ns";

/// Of a file whose mode nobody has said.
const MODE_DEFAULT: u32 = 0o644;
/// As much as `dav-server` takes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// RFC 4918 has five levels; owners of locks and values of properties may have a few of their own.
const DEPTH_MAX: usize = 64;
const TOO_DEEP: &str = "elements of the XML stand in each other more than 64 deep";

#[cfg(test)]
mod tests {
    use super::*;

    fn body(props: &str) -> String {
        format!(
            "<propertyupdate xmlns=\"DAV:\" xmlns:c=\"{CTP}\" xmlns:x=\"{XATTR}\" \
             xmlns:a=\"{APACHE}\"><set><prop>{props}</prop></set></propertyupdate>"
        )
    }

    fn sets(props: &str) -> Vec<Option<Attributes>> {
        let known = Attributes { mode: Some(0o640), ..Attributes::default() };
        let patches = patches(body(props).as_bytes(), &known).unwrap();
        patches.into_iter().map(|patch| patch.sets).collect()
    }

    #[test]
    fn times_and_modes_are_set_by_the_properties_of_clients() {
        let mtime = |props: &str| sets(props)[0].clone().and_then(|attrs| attrs.mtime_ns);
        assert_eq!(mtime("<lastmodified>7</lastmodified>"), Some(7_000_000_000));
        let date = "<getlastmodified>Sun, 06 Nov 1994 08:49:37 GMT</getlastmodified>";
        assert_eq!(mtime(date), Some(784_111_777_000_000_000));
        assert_eq!(mtime("<c:mtime-ns>5</c:mtime-ns>"), Some(5));
        let mode = |props: &str| sets(props)[0].clone().and_then(|attrs| attrs.mode);
        assert_eq!(mode("<c:mode>0600</c:mode>"), Some(0o600));
        assert_eq!(mode("<a:executable>T</a:executable>"), Some(0o750));
        assert_eq!(mode("<a:executable>F</a:executable>"), Some(0o640));
    }

    #[test]
    fn other_properties_are_extended_attributes_and_are_told_again() {
        let attrs =
            sets("<x:colour>red &amp; blue</x:colour><n:mood xmlns:n=\"urn:n\">so</n:mood>");
        let mut facts = Facts::default();
        attrs.into_iter().flatten().for_each(|attrs| facts.attrs.xattr.extend(attrs.xattr));
        let names: Vec<&String> = facts.attrs.xattr.keys().collect();
        assert_eq!(names, ["user.colour", "user.{urn:n}mood"]);
        let colour = "<x:colour xmlns:x=\"urn:headend:xattr\">red &amp; blue</x:colour>";
        assert_eq!(one(&facts, Some(XATTR), "colour").as_deref(), Some(colour));
        assert_eq!(all(&facts, true).len(), 2);
        let names = all(&facts, false).remove(1).xml.unwrap();
        assert_eq!(String::from_utf8(names).unwrap(), "<x:mood xmlns:x=\"urn:n\"/>");
    }

    fn removals(props: &str) -> Vec<Patch> {
        let removal = body(props).replace("set>", "remove>");
        patches(removal.as_bytes(), &Attributes::default()).unwrap()
    }

    #[test]
    fn extended_attributes_can_be_taken_away_and_are_not_told_any_more() {
        let removed = removals("<x:colour/><n:mood xmlns:n=\"urn:n\"/>");
        let names: Vec<_> = removed
            .into_iter()
            .flat_map(|patch| patch.sets.unwrap().xattr)
            .map(|(name, value)| (name, value.is_none()))
            .collect();
        let told = ["user.colour", "user.{urn:n}mood"].map(|name| (name.to_owned(), true));
        assert_eq!(names, told);
        let mut facts = Facts::default();
        facts.attrs.xattr.insert("user.colour".to_owned(), None);
        assert_eq!((one(&facts, Some(XATTR), "colour"), all(&facts, false).len()), (None, 0));
    }

    #[test]
    fn what_cannot_be_set_is_refused_and_nothing_else_is_set_then() {
        let patches = sets("<c:mode>9</c:mode><getetag>x</getetag><c:blake3>0</c:blake3>");
        assert_eq!(patches, [None, None, None]);
        let patches = removals("<getetag/><c:mode/><c:blake3/>");
        assert!(patches.iter().all(|patch| patch.sets.is_none()) && patches.len() == 3);
        let path = DavPath::new("/a b").unwrap();
        let told = answer(&path, &patches, false);
        assert!(told.contains("/a%20b") && told.contains("403 Forbidden"), "{told}");
        for bad in ["", "<a/>", "<propertyupdate"] {
            assert!(super::patches(bad.as_bytes(), &Attributes::default()).is_err(), "{bad}");
        }
    }
}
