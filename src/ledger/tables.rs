//! The tables of a ledger, for both databases: one description, from which their SQL is made.
//!
//! Times are UTC nanoseconds, states and reasons the words of the API, ids text, so that any tool
//! that opens the database can ask: `SELECT node, state, reason FROM delivery WHERE job = '...'`.
//! Unsigned 64-bit numbers are kept as signed ones, bit for bit; true is 1.
//! Invariant: the columns of a key are the first ones. Bound: a table has one index beside its key
//! at most.

use std::fmt::Write as _;

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    /// How many of the columns name a row.
    pub(super) key_len: usize,
    /// Rows are only added; those of other tables are replaced.
    pub(super) is_log: bool,
    /// Another index: its name and columns.
    index: Option<(&'static str, &'static str)>,
}

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    is_null: bool,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Real,
}

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

/// Tables by their place in [`TABLES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Job,
    Command,
    Delivery,
    Node,
    Content,
    Event,
    Answer,
    Webhook,
    Wait,
    Care,
    Trim,
}

impl Place {
    pub(super) fn table(self) -> &'static Table {
        &TABLES[self as usize]
    }
}

impl Kind {
    /// The type of such a column.
    pub(super) fn sql(self, dialect: Dialect) -> &'static str {
        match (self, dialect) {
            (Self::Text, _) => "TEXT",
            (Self::Integer, Dialect::Sqlite) => "INTEGER",
            (Self::Integer, Dialect::Postgres) => "BIGINT",
            (Self::Real, Dialect::Sqlite) => "REAL",
            (Self::Real, Dialect::Postgres) => "DOUBLE PRECISION",
        }
    }
}

impl Table {
    /// The statements that make the table.
    pub(super) fn create(&self, dialect: Dialect) -> String {
        let mut sql = format!("CREATE TABLE {} (", self.name);
        for Column { name, kind, is_null } in self.columns {
            let null = if *is_null { "" } else { " NOT NULL" };
            // Memory takes it.
            let _never = write!(sql, "\"{name}\" {}{null}, ", kind.sql(dialect));
        }
        let _never = write!(sql, "PRIMARY KEY ({}))", self.key());
        if dialect == Dialect::Sqlite && !self.is_log {
            sql.push_str(" WITHOUT ROWID");
        }
        sql.push_str(";\n");
        if let Some((name, columns)) = self.index {
            let _never = writeln!(sql, "CREATE INDEX {name} ON {} ({columns});", self.name);
        }
        sql
    }

    /// The statements that add columns, which are the last ones of the table and may be null.
    fn add(&self, names: &[&str], dialect: Dialect) -> String {
        let columns = self.columns.iter().filter(|column| names.contains(&column.name));
        let added = columns.map(|Column { name, kind, .. }| {
            format!("ALTER TABLE {} ADD COLUMN \"{name}\" {};\n", self.name, kind.sql(dialect))
        });
        added.collect()
    }

    /// Writes a row, in place of the one with the same key. SQLite is given a row at a time,
    /// PostgreSQL the columns of many rows as arrays.
    pub(super) fn write(&self, dialect: Dialect) -> String {
        let mut sql = format!("INSERT INTO {} ", self.name);
        let places: Vec<String> = match dialect {
            Dialect::Sqlite => self.columns.iter().map(|_| "?".to_owned()).collect(),
            Dialect::Postgres => {
                let array =
                    |(n, column): (i32, &Column)| format!("${n}::{}[]", column.kind.sql(dialect));
                (1..).zip(self.columns).map(array).collect()
            }
        };
        let places = places.join(", ");
        let _never = match dialect {
            Dialect::Sqlite => write!(sql, "VALUES ({places})"),
            Dialect::Postgres => write!(sql, "SELECT * FROM unnest({places})"),
        };
        if !self.is_log {
            let others = self.columns.iter().skip(self.key_len);
            let set: Vec<_> =
                others.map(|column| format!("\"{0}\" = excluded.\"{0}\"", column.name)).collect();
            let set = set.join(", ");
            let _never = write!(sql, " ON CONFLICT ({}) DO UPDATE SET {set}", self.key());
        }
        sql
    }

    fn key(&self) -> String {
        let names = self.columns.iter().take(self.key_len).map(|column| column.name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl Column {
    const fn or_null(self) -> Self {
        Self { is_null: true, ..self }
    }
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, is_null: false }
}

const fn integer(name: &'static str) -> Column {
    Column { name, kind: Kind::Integer, is_null: false }
}

const fn real(name: &'static str) -> Column {
    Column { name, kind: Kind::Real, is_null: false }
}

const fn table(name: &'static str, key_len: usize, columns: &'static [Column]) -> Table {
    Table { name, columns, key_len, is_log: false, index: None }
}

/// Version of the tables.
pub(super) const VERSION: i32 = 6;

/// The statements that make a ledger of version `from` one of [`VERSION`]; `None` where there are
/// none. The first version had no lease, the second no notifications, the third no wait periods,
/// the fourth no windows, pauses and rates of single nodes, the fifth kept all events. Columns that
/// are added are the last of their table.
pub(super) fn upgrade(from: i32, dialect: Dialect) -> Option<String> {
    let mut sql = String::new();
    for version in from..VERSION {
        sql.push_str(&match version {
            1 => LEASE.create(dialect),
            2 => Place::Webhook.table().create(dialect),
            3 => with_waits(dialect),
            4 => Place::Job.table().add(&["per_node_rate", "open_hours", "is_paused"], dialect),
            5 => Place::Trim.table().create(dialect),
            _ => return None,
        });
    }
    (1..=VERSION).contains(&from).then_some(sql)
}

/// Wait periods, nodes that do not get on, and what a job says of them.
fn with_waits(dialect: Dialect) -> String {
    let integer = Kind::Integer.sql(dialect);
    let (wait, care) = (Place::Wait.table().create(dialect), Place::Care.table().create(dialect));
    format!(
        "ALTER TABLE job ADD COLUMN late TEXT NOT NULL DEFAULT 'deliver';\n\
         ALTER TABLE job ADD COLUMN first_ended_at_ns {integer};\n\
         UPDATE job SET first_ended_at_ns = ended_at_ns;\n{wait}{care}"
    )
}

/// All tables but that of the lease, in the order of [`Place`].
pub(super) const TABLES: [Table; 11] = [
    table(
        "job",
        1,
        &[
            text("id"),
            text("client"),
            text("client_ref").or_null(),
            text("state"),
            text("servers"),
            integer("list_version"),
            text("sequence"),
            integer("priority"),
            integer("max_rate").or_null(),
            integer("created_at_ns"),
            integer("deadline_ns").or_null(),
            integer("ended_at_ns").or_null(),
            real("bound_ratio").or_null(),
            real("base_egress_ratio").or_null(),
            text("late"),
            integer("first_ended_at_ns").or_null(),
            integer("per_node_rate").or_null(),
            text("open_hours").or_null(),
            integer("is_paused").or_null(),
        ],
    ),
    table(
        "command",
        2,
        &[
            text("job"),
            integer("command"),
            text("op"),
            text("path").or_null(),
            text("to_path").or_null(),
            text("attrs").or_null(),
            text("content").or_null(),
            integer("created_at_ns"),
        ],
    ),
    table(
        "delivery",
        3,
        &[
            text("job"),
            integer("command"),
            text("node"),
            text("state"),
            integer("offset"),
            text("source").or_null(),
            integer("switches"),
            integer("attempts"),
            text("reason").or_null(),
            text("detail").or_null(),
            text("receipt").or_null(),
            text("signature").or_null(),
            integer("updated_at_ns"),
        ],
    ),
    table(
        "node",
        1,
        &[
            text("name"),
            text("state"),
            text("token_hash"),
            text("public_key"),
            text("addr"),
            text("labels"),
            integer("incarnation"),
            integer("reports_taken"),
            integer("up_rate_cap").or_null(),
            integer("down_rate_cap").or_null(),
            integer("up_rate_seen"),
            integer("down_rate_seen"),
            integer("heard_at_ns"),
        ],
    ),
    table(
        "content",
        1,
        &[
            text("id"),
            text("job"),
            integer("command"),
            integer("size").or_null(),
            text("expected").or_null(),
            text("blake3").or_null(),
            integer("ended_at_ns").or_null(),
            integer("is_abandoned"),
        ],
    ),
    Table {
        name: "event",
        columns: &[
            integer("seq"),
            integer("at_ns"),
            text("job").or_null(),
            integer("command").or_null(),
            text("node").or_null(),
            text("kind"),
            text("detail"),
            text("hash"),
        ],
        key_len: 1,
        is_log: true,
        index: Some(("event_of_job", "job, seq")),
    },
    Table {
        name: "answer",
        columns: &[
            text("client"),
            text("idempotency_key"),
            text("request"),
            integer("status"),
            text("body"),
            integer("at_ns"),
        ],
        key_len: 2,
        is_log: false,
        index: Some(("answer_by_age", "at_ns")),
    },
    table(
        "webhook",
        2,
        &[
            text("job"),
            integer("hook"),
            text("url"),
            text("secret").or_null(),
            text("topics"),
            text("client_ref").or_null(),
            text("state"),
            integer("place"),
            integer("newest"),
            integer("pending"),
            integer("waits_since_ns"),
            integer("delivered"),
            integer("dropped"),
            integer("attempts"),
            integer("due_at_ns"),
            integer("delivered_at_ns").or_null(),
            text("last_error").or_null(),
        ],
    ),
    table("wait", 1, &[text("job"), integer("until_ns"), integer("period_s"), integer("periods")]),
    table(
        "care",
        1,
        &[
            text("node"),
            text("phase"),
            text("cause").or_null(),
            integer("tries"),
            integer("extensions"),
            integer("due_at_ns").or_null(),
            integer("expected_back_ns").or_null(),
        ],
    ),
    // One row: the last event that is kept elsewhere.
    table("trimmed", 1, &[integer("one"), integer("seq"), text("hash")]),
];

/// Who may write. It has one row.
pub(super) const LEASE: Table = table(
    "lease",
    1,
    &[
        integer("one"),
        integer("version"),
        integer("epoch"),
        text("holder"),
        text("addr"),
        integer("expires_at_ns"),
        text("base_key"),
    ],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_their_tables() {
        let places = [
            (Place::Job, "job"),
            (Place::Command, "command"),
            (Place::Delivery, "delivery"),
            (Place::Node, "node"),
            (Place::Content, "content"),
            (Place::Event, "event"),
            (Place::Answer, "answer"),
            (Place::Webhook, "webhook"),
            (Place::Wait, "wait"),
            (Place::Care, "care"),
            (Place::Trim, "trimmed"),
        ];
        for (place, name) in places {
            assert_eq!(place.table().name, name);
        }
    }

    #[test]
    fn statements_differ_where_the_databases_do() {
        let command = Place::Command.table();
        assert_eq!(
            command.write(Dialect::Sqlite),
            "INSERT INTO command VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, command) DO \
             UPDATE SET \"op\" = excluded.\"op\", \"path\" = excluded.\"path\", \"to_path\" = \
             excluded.\"to_path\", \"attrs\" = excluded.\"attrs\", \"content\" = \
             excluded.\"content\", \"created_at_ns\" = excluded.\"created_at_ns\""
        );
        assert_eq!(
            Place::Event.table().write(Dialect::Postgres),
            "INSERT INTO event SELECT * FROM unnest($1::BIGINT[], $2::BIGINT[], $3::TEXT[], \
             $4::BIGINT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[])"
        );
    }
}
