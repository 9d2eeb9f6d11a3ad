//! A table that is read: its columns, its key, and where its chunks are cut.
//!
//! Chunks are cut one behind the other, by walking over as many keys as a chunk has rows: that balances them whatever the key's values are, and takes the
//! server a fifth of the time that sending the rows does. Where an integer key's values lie evenly, no key is walked over ([`even`](super::even)).

use crate::event::{TableName, TableSchema};

use super::super::catalog::Unlike;
use super::super::control::{METADATA_PATIENCE, literal};
use super::super::decode::{ColumnPlan, RowPlan};
use super::super::description::Description;
use super::super::error::MysqlError;
use super::super::named_key::{NamedKeys, named};
use super::super::schema::{self, SchemaError};
use super::super::select;
use super::chunk::{Session, Unread};
use super::order::KeyOrder;

/// Keys that are tried one after the other where a chunk is to end and a key cannot be spelt.
const TRIES: usize = 16;

/// More than a key can take, in the log too.
const KEY_BYTES: usize = 1 << 20;

/// A table as it is read.
#[derive(Debug)]
pub struct Subject {
    pub schema: TableSchema,
    pub plan: RowPlan,
    pub order: KeyOrder,
    /// `SELECT … FROM …`
    pub select: String,
    /// How many rows there may be.
    pub estimated_rows: u64,
    /// How long one may be, bytes; 0 where that is not known.
    pub row_bytes: u64,
    /// The highest value of the key, if that is one integer, where it was asked for.
    pub last: Option<i128>,
    key_plan: RowPlan,
}

/// Where a chunk ends.
#[derive(Debug)]
pub enum Cut {
    /// With this place.
    At(Vec<u8>),
    /// With the table's last row.
    End,
}

impl Session {
    /// Describes a table by what information_schema says of it now, and by the key that the configuration names; `None`: it is not there, or nothing that the user may see.
    ///
    /// # Errors
    /// The server does not answer, or the table is one that cannot be followed.
    pub async fn describe(
        &mut self,
        table: &TableName,
        keys: &NamedKeys,
    ) -> Result<Option<Subject>, MysqlError> {
        let control = self.control();
        control.show_all_columns().await?;
        let asked = control.table(table).await?;
        let family = control.server().peer.family;
        let described = match asked.whole(family) {
            Ok(described) => described,
            Err(Unlike::NoTable) => return Ok(None),
            Err(source) => return Err(MysqlError::Described { table: table.clone(), source }),
        };
        let built = Description::parse(&described)
            .map_err(SchemaError::from)
            .and_then(|described| schema::build(table, &described.with_key(named(keys, table)), family));
        let (schema, plan) =
            built.map_err(|source| MysqlError::Snapshot { table: table.clone(), why: source.to_string() })?;
        let sizes = format!(
            "SELECT COALESCE(table_rows, 0), COALESCE(avg_row_length, 0) FROM information_schema.tables \
             WHERE table_schema = {} AND table_name = {}",
            literal(&table.schema),
            literal(&table.table)
        );
        let doing = "reading the size of a followed table";
        let sizes: Vec<[String; 2]> = control.ask_within(METADATA_PATIENCE, doing, &sizes).await?;
        let (rows, bytes) = sizes.first().map_or(("", ""), |[rows, bytes]| (rows, bytes));
        Ok(Some(Subject::new(schema, plan, rows.parse().unwrap_or(0), bytes.parse().unwrap_or(0))))
    }

    /// Where the chunk of `rows` rows ends that begins behind `after`, of those that fulfil `filter`.
    ///
    /// # Errors
    /// See [`Unread`]; the connection is of no more use then.
    pub async fn cut(
        &mut self,
        subject: &Subject,
        (after, filter): (Option<&[u8]>, Option<&str>),
        rows: usize,
    ) -> Result<Cut, Unread> {
        let table = &subject.schema.name;
        let unspelt = || {
            MysqlError::Snapshot {
            table: table.clone(),
            why: "keys of it have bytes that are none of their character set, so that no chunk of it can end there".to_owned(),
        }
        };
        let condition = subject.order.condition(after, None, filter).ok_or_else(unspelt)?;
        let list = subject.order.list();
        let name = select::table(&subject.schema);
        for more in 0..TRIES {
            let offset = rows.saturating_sub(1) + more;
            let sql = format!("SELECT {list} FROM {name}{condition} ORDER BY {list} LIMIT 1 OFFSET {offset}");
            let Some((place, lost)) = self.key(subject, &sql).await? else { return Ok(Cut::End) };
            if !lost && subject.order.knows(&place) {
                return Ok(Cut::At(place));
            }
        }
        Err(unspelt().into())
    }

    /// Asks for the table's last key, if that is one integer: chunks up to it may be cut without walking over keys.
    ///
    /// # Errors
    /// See [`Unread`]; the connection is of no more use then.
    pub async fn find_last(&mut self, subject: &mut Subject) -> Result<(), Unread> {
        if subject.order.at(0).is_some() {
            let (list, name) = (subject.order.list(), select::table(&subject.schema));
            let sql = format!("SELECT {list} FROM {name} ORDER BY {list} DESC LIMIT 1");
            subject.last =
                self.key(subject, &sql).await?.and_then(|(place, _)| subject.order.integer(&place));
        }
        Ok(())
    }

    /// The place of the one key that a statement finds, and whether bytes of it were replaced.
    async fn key(&mut self, subject: &Subject, sql: &str) -> Result<Option<(Vec<u8>, bool)>, Unread> {
        let doing = "cutting a table into chunks";
        let (control, table) = (self.control(), &subject.schema.name);
        let (statement, mut reader) = control.select(sql, &subject.key_plan, KEY_BYTES, doing).await?;
        let mut found = None;
        while let Some(row) = control.row(table, KEY_BYTES, doing).await? {
            let mut values = Vec::new();
            reader
                .read(row, &mut values)
                .map_err(|source| MysqlError::selected(table, control.name(), source))?;
            found = Some(subject.order.place(reader.key(&values)));
        }
        control.forget(statement, doing).await?;
        Ok(found.map(|place| (place, reader.replaced > 0)))
    }
}

impl Subject {
    fn new(schema: TableSchema, plan: RowPlan, estimated_rows: u64, row_bytes: u64) -> Subject {
        let columns = schema.key.iter().enumerate().filter_map(|(part, index)| {
            let column = plan.columns.get(usize::from(*index))?;
            Some(ColumnPlan { key_part: u8::try_from(part).ok(), ..column.clone() })
        });
        let columns: Vec<_> = columns.collect();
        let key = (0..columns.len() as u16).collect();
        Subject {
            order: KeyOrder::of(&schema, &plan),
            select: format!("SELECT {} FROM {}", select::list(&schema), select::table(&schema)),
            key_plan: RowPlan { columns, key },
            estimated_rows,
            row_bytes,
            last: None,
            schema,
            plan,
        }
    }
}
