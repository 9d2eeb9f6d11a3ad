use std::ops::ControlFlow;
use std::sync::Mutex;

use super::*;
use crate::event::codec::{Row, RowWriter};
use crate::event::document::{Action, ByRow, DeletedIndex, IndexSpec};
use crate::event::pattern::TablePattern;
use crate::event::{Column, ColumnType};
use crate::mapping::rule::Rule;
use crate::mapping::template::IndexTemplate;
use crate::sink::{Bulk, BulkError, Disposition, Old, SinkError, Swept, UnderWay, Whose};

#[test]
fn a_tables_documents_stay_behind_the_alias_that_they_were_written_to() {
    let (orders, lines) = (TableName::new("shop", "orders"), TableName::new("shop", "lines"));
    let mut stored = IndexId {
        table: orders.clone(),
        name: "shop.orders-000001".into(),
        uuid: "u".into(),
        history: None,
        template: None,
    };
    let tables = Tables::new(BTreeMap::from([("shop.orders".to_owned(), stored.clone())]), Rules::default());
    let expect = |alias: &str, table| tables.expect(&Behind::Alias(alias.to_owned()), alias, table);
    assert!(matches!(expect("shop.orders", &orders), Ok(Expect::Existing)));
    assert!(matches!(expect("shop.lines", &lines), Ok(Expect::Anything)));
    assert!(matches!(expect("orders-v2", &orders), Err(DeliverError::OtherAlias { .. })));
    assert!(matches!(expect("shop.orders", &lines), Err(DeliverError::SharedAlias { .. })));
    let by_row = |pattern: &str| {
        Behind::ByRow(ByRow {
            table: orders.clone(),
            template: "shop.{day}".to_owned(),
            pattern: pattern.to_owned(),
            deleted_index: DeletedIndex::Halt,
        })
    };
    let expect = |pattern: &str, alias| tables.expect(&by_row(pattern), alias, &orders);
    // It has one for all rows.
    assert!(matches!(expect("shop.*", "shop.orders"), Err(DeliverError::OtherAlias { .. })));
    stored.template = Some("shop.{day}".to_owned());
    let tables = Tables::new(BTreeMap::from([("shop.orders".to_owned(), stored)]), Rules::default());
    let expect = |pattern: &str, alias| tables.expect(&by_row(pattern), alias, &orders);
    assert!(matches!(expect("shop.*", "shop.orders"), Ok(Expect::Existing)));
    assert!(matches!(expect("shop.*", "shop.eu"), Ok(Expect::Anything)));
    assert!(matches!(expect("orders-*", "orders-eu"), Err(DeliverError::OtherAlias { .. })));
}

/// Knows which aliases lead to an index, and takes no documents.
#[derive(Default)]
struct Engine(Mutex<Vec<String>>);

impl Sink for Engine {
    async fn ensure(&self, spec: &IndexSpec, expect: Expect) -> Result<Index, SinkError> {
        let made = match self.find(&spec.alias, Expect::MaybeGone).await? {
            Some(_) => false,
            None if expect == Expect::Existing => return Err(SinkError::Definite("it is gone".into())),
            None => {
                self.0.lock().unwrap().push(spec.alias.clone());
                true
            }
        };
        Ok(Index { made, ..self.find(&spec.alias, Expect::Existing).await?.unwrap() })
    }

    async fn find(&self, alias: &str, _: Expect) -> Result<Option<Index>, SinkError> {
        let no = self.0.lock().unwrap().iter().position(|known| known == alias);
        let (name, uuid) = (format!("{alias}-000001"), "u".to_owned());
        Ok(no.map(|no| Index { no: IndexNo(no as u32), name, uuid, history: None, made: false }))
    }

    async fn aliases(&self, _: &ByRow) -> Result<Vec<String>, SinkError> {
        Ok(self.0.lock().unwrap().iter().filter(|alias| !alias.is_empty()).cloned().collect())
    }

    async fn sweep(
        &self,
        _: IndexNo,
        _: Old<'_>,
        _: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        unreachable!()
    }

    fn encode<E>(
        &self,
        _: IndexNo,
        _: &Action<'_>,
        _: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        _: &mut Vec<u8>,
    ) -> Result<(), E> {
        unreachable!()
    }

    async fn send(&self, _: &Bulk) -> Result<Vec<Disposition>, BulkError> {
        unreachable!()
    }

    async fn under_way(&self, _: Whose<'_>) -> Result<UnderWay, SinkError> {
        unreachable!()
    }

    async fn release(&self) -> Result<(), SinkError> {
        unreachable!()
    }
}

/// A table whose rows have an index each.
struct Play {
    engine: Arc<Engine>,
    tables: Tables,
    table: Arc<Table>,
    schema: TableSchema,
}

impl Play {
    fn new(deleted_index: DeletedIndex) -> Play {
        let mut rule = Rule::of(TablePattern::parse("shop.*").unwrap(), 1);
        rule.index = Some(IndexTemplate::parse("o-{id}").unwrap());
        rule.deleted_index = Some(deleted_index);
        let ty = ColumnType::Integer { bits: 64, unsigned: false };
        let schema = TableSchema {
            name: TableName::new("shop", "orders"),
            columns: vec![Column { name: "id".into(), ty, nullable: false }],
            key: vec![0],
        };
        let (engine, mut tables) =
            (Arc::new(Engine::default()), Tables::new(BTreeMap::new(), Rules(vec![rule])));
        let record = SchemaRecord { table: TableNo(1), schema: schema.clone() };
        assert!(tables.learn((record, Version(1)), &engine, &Readiness::new()).unwrap().is_none());
        let table = tables.take(TableNo(1)).unwrap();
        Play { engine, tables, table, schema }
    }

    /// Where a row's document goes, once all that has to be made or looked for is.
    async fn to(&mut self, op: Op, id: i64) -> Result<To, DeliverError> {
        let mut row = Vec::new();
        RowWriter::new(&mut row).i64(id);
        let change = Change { op, table: TableNo(1), stamp: None, row: Row::new(&row) };
        let (verb, mut alias) = (self.table.mapping.verb(op), String::new());
        for _ in 0..4 {
            match self.tables.to(&self.table, &change, verb, &mut alias)? {
                To::Unknown => {}
                place => return Ok(place),
            }
            let wanted = (&*alias, (op, verb), Version(7));
            let mut learning =
                self.tables.learn_index(&self.table, wanted, &self.engine, &Readiness::new())?;
            let learned = learning.learned().await?;
            self.tables.learned(learning, learned)?;
        }
        panic!("it is looked for again and again")
    }

    fn delete(&self, id: i64) {
        for alias in self.engine.0.lock().unwrap().iter_mut().filter(|alias| **alias == format!("o-{id}")) {
            alias.clear();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_index_is_made_with_its_first_document_and_a_delete_makes_none() {
    let mut play = Play::new(DeletedIndex::Halt);
    assert_eq!(play.to(Op::Tombstone, 1).await.unwrap(), To::Nowhere);
    assert!(play.engine.0.lock().unwrap().is_empty());
    assert_eq!(play.to(Op::Insert, 1).await.unwrap(), To::Index(IndexNo(0)));
    assert_eq!(play.to(Op::Update, 2).await.unwrap(), To::Index(IndexNo(1)));
    assert_eq!(play.to(Op::Delete, 1).await.unwrap(), To::Index(IndexNo(0)));
    assert_eq!(play.tables.indices().keys().collect::<Vec<_>>(), ["o-1", "o-2"]);
    assert_eq!(play.tables.seen_of(&TableName::new("shop", "orders")).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_index_that_was_deleted_takes_deletes_and_nothing_else() {
    let mut play = Play::new(DeletedIndex::Halt);
    for id in 1..4 {
        play.to(Op::Insert, id).await.unwrap();
        play.delete(id);
    }
    // Nobody looks again each time.
    assert_eq!(play.to(Op::Delete, 1).await.unwrap(), To::Index(IndexNo(0)));
    tokio::time::advance(THERE).await;
    assert_eq!(play.to(Op::Delete, 1).await.unwrap(), To::Nowhere);
    for op in [Op::Update, Op::Insert, Op::Read] {
        assert!(play.to(op, 2).await.is_err(), "it would be alone there: {op:?}");
    }
    assert_eq!(play.tables.indices().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_index_that_was_deleted_is_made_anew_where_a_rule_says_so() {
    let mut play = Play::new(DeletedIndex::Make);
    play.to(Op::Insert, 3).await.unwrap();
    play.delete(3);
    tokio::time::advance(THERE).await;
    assert_eq!(play.to(Op::Delete, 3).await.unwrap(), To::Nowhere);
    assert_eq!(play.to(Op::Read, 3).await.unwrap(), To::Index(IndexNo(1)));
    assert_eq!(play.to(Op::Update, 3).await.unwrap(), To::Index(IndexNo(1)));
    assert_eq!(play.tables.index_name(IndexNo(1)), "o-3-000001");
    // What an older document is written to may have older ones.
    let index = play.tables.seen("o-3").unwrap().clone();
    assert!(!play.tables.may_have_older(&index, Version(5)));
    let spec = play.table.mapping.spec().clone();
    assert_eq!(play.tables.to_any_version(&spec, "o-3"), Some(index.no));
    assert!(play.tables.may_have_older(&index, Version(5)));
}

#[tokio::test(start_paused = true)]
async fn two_tables_do_not_share_what_their_aliases_are_known_by() {
    let mut play = Play::new(DeletedIndex::Halt);
    let schema = TableSchema { name: TableName::new("shop", "others"), ..play.schema.clone() };
    let record = SchemaRecord { table: TableNo(2), schema };
    let refused = play.tables.learn((record, Version(1)), &play.engine, &Readiness::new());
    assert!(matches!(refused, Err(DeliverError::SharedAlias { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_of_an_index_that_was_deleted_are_left_out_where_a_rule_says_so() {
    let mut play = Play::new(DeletedIndex::Skip);
    play.to(Op::Insert, 1).await.unwrap();
    play.delete(1);
    tokio::time::advance(THERE).await;
    for op in [Op::Insert, Op::Read, Op::Update, Op::Delete] {
        assert_eq!(play.to(op, 1).await.unwrap(), To::Nowhere, "{op:?}");
    }
    // One that never was is made.
    assert_eq!(play.to(Op::Tombstone, 2).await.unwrap(), To::Nowhere);
    assert_eq!(play.to(Op::Read, 2).await.unwrap(), To::Index(IndexNo(1)));
    assert_eq!(play.to(Op::Delete, 2).await.unwrap(), To::Index(IndexNo(1)));
}

#[tokio::test(start_paused = true)]
async fn a_table_has_a_bounded_number_of_indices() {
    let mut play = Play::new(DeletedIndex::Halt);
    for id in 0..MOST_INDICES as i64 {
        play.to(Op::Insert, id).await.unwrap();
    }
    let error = play.to(Op::Insert, -1).await.unwrap_err();
    assert!(matches!(&error, DeliverError::TooManyIndices { aliases, .. } if aliases == "o-*"), "{error}");
    assert_eq!(play.to(Op::Insert, 7).await.unwrap(), To::Index(IndexNo(7)));
    // Those that were deleted make room.
    play.delete(8);
    assert_eq!(play.to(Op::Insert, -1).await.unwrap(), To::Index(IndexNo(MOST_INDICES as u32)));
    assert_eq!(play.tables.indices().len(), MOST_INDICES);
}
