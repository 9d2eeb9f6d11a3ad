use super::*;
use crate::sink::IndexNo;
use crate::sink::elastic::action::Prefixes;

fn target() -> Arc<Target> {
    Arc::new(Target {
        alias: "shop.orders".into(),
        index: "shop.orders-000001".into(),
        uuid: "u".into(),
        shards: 1,
        fields: vec!["amount".into()],
        prefixes: Prefixes::new("shop.orders"),
    })
}

fn item(verb: Verb, id: &str) -> Item {
    Item { index: IndexNo(0), verb, id: id.into(), version: Version(7), bytes: 0..0 }
}

fn judge_one(verb: Verb, entry: &str) -> Result<Disposition, BulkError> {
    let answer = format!("{{\"took\":1,\"errors\":false,\"items\":[{{{entry}}}]}}");
    let mut judged = judge(answer.as_bytes(), &[item(verb, "1")], &[target()])?;
    assert_eq!(judged.len(), 1);
    Ok(judged.remove(0))
}

const HEAD: &str = r#""_index":"shop.orders-000001","_id":"1""#;

fn refusal(status: u16, kind: &str, reason: &str) -> Disposition {
    let error = serde_json::json!({"type": kind, "reason": reason});
    judge_one(Verb::Index, &format!("\"index\":{{{HEAD},\"status\":{status},\"error\":{error}}}")).unwrap()
}

#[test]
fn what_was_applied_is_done() {
    for (verb, name, result, status) in [
        (Verb::Index, "index", "created", 201),
        (Verb::Index, "index", "updated", 200),
        (Verb::Delete, "delete", "deleted", 200),
        (Verb::Delete, "delete", "not_found", 404),
    ] {
        let entry =
            format!("\"{name}\":{{{HEAD},\"_version\":7,\"result\":\"{result}\",\"status\":{status}}}");
        assert_eq!(judge_one(verb, &entry), Ok(Disposition::Done), "{entry}");
    }
}

#[test]
fn the_quick_look_takes_the_one_text_in_which_all_is_done_and_no_other() {
    let items = [item(Verb::Index, "1"), item(Verb::Delete, "2"), item(Verb::Index, "x y")];
    let entry = |verb: &str, id: &str, end: &str| {
        format!("{{\"{verb}\":{{\"_index\":\"shop.orders-000001\",\"_id\":\"{id}\",\"_version\":7,{end}}}}}")
    };
    let answer = format!(
        "{{\"items\":[{},{},{}]}}",
        entry("index", "1", "\"result\":\"created\",\"status\":201"),
        entry("delete", "2", "\"result\":\"not_found\",\"status\":404"),
        entry("index", "x y", "\"result\":\"updated\",\"status\":200"),
    );
    let quick = |answer: &[u8], items: &[Item]| all_done(answer, items, &[target()]).is_some();
    assert!(quick(answer.as_bytes(), &items));
    assert!(!quick(answer.as_bytes(), &items[..2]));
    assert_eq!(judge(answer.as_bytes(), &items, &[target()]), Ok(vec![Disposition::Done; 3]));
    for at in 0..answer.len() {
        let mut other = answer.clone().into_bytes();
        assert!(!quick(&other[..at], &items), "cut at {at}");
        other[at] ^= 1;
        assert!(!quick(&other, &items), "{}", String::from_utf8_lossy(&other));
    }
    // An id that JSON writes in other bytes is left to a reader of JSON.
    let quoted = answer.replace("\"x y\"", "\"x\\\"y\"");
    let items = [items[0].clone(), items[1].clone(), item(Verb::Index, "x\"y")];
    assert!(!quick(quoted.as_bytes(), &items));
    assert_eq!(judge(quoted.as_bytes(), &items, &[target()]), Ok(vec![Disposition::Done; 3]));
}

#[test]
fn a_write_that_was_dropped_or_changed_on_its_way_is_definite() {
    for rest in [
        r#""_version":7,"result":"noop","status":200"#,
        r#""_version":7,"result":"not_found","status":404"#,
        r#""_version":8,"result":"updated","status":200"#,
        r#""_version":-3,"result":"updated","status":200"#,
        r#""result":"updated","status":200"#,
    ] {
        let judged = judge_one(Verb::Index, &format!("\"index\":{{{HEAD},{rest}}}")).unwrap();
        assert!(matches!(judged, Disposition::Definite { .. }), "{rest}: {judged:?}");
    }
    let elsewhere =
        r#""index":{"_index":"shop.orders","_id":"1","_version":7,"result":"created","status":201}"#;
    let judged = judge_one(Verb::Index, elsewhere).unwrap();
    assert!(matches!(judged, Disposition::Definite { .. }), "{judged:?}");
}

#[test]
fn each_refusal_has_its_own_consequence() {
    let conflict = "[1]: version conflict, current version [9] is higher than the one provided [7]";
    let superseded = refusal(409, "version_conflict_engine_exception", conflict);
    assert_eq!(superseded, Disposition::Superseded { current: Some(Version(9)) });
    assert_eq!(
        refusal(409, "version_conflict_engine_exception", "x"),
        Disposition::Superseded { current: None }
    );
    for (status, kind) in [
        (429, "es_rejected_execution_exception"),
        (429, "circuit_breaking_exception"),
        (429, "cluster_block_exception"),
        (403, "cluster_block_exception"),
        (403, "security_exception"),
        (400, "index_closed_exception"),
        (503, "unavailable_shards_exception"),
        (500, "anything"),
    ] {
        let judged = refusal(status, kind, "canary");
        assert!(
            matches!(&judged, Disposition::Transient { reason } if !reason.contains("canary")),
            "{judged:?}"
        );
    }
    for kind in [
        "mapper_parsing_exception",
        "document_parsing_exception",
        "strict_dynamic_mapping_exception",
        "illegal_argument_exception",
    ] {
        let judged = refusal(400, kind, "failed to parse field [amount]: 'canary'");
        let Disposition::Poison { kind: told, reason } = &judged else { panic!("{judged:?}") };
        assert_eq!(*told, kind);
        assert!(!reason.contains("canary") && reason.ends_with("at column amount (400)"), "{reason}");
    }
    for (status, kind, reason) in [
        (404, "index_not_found_exception", "no such index [x] and [require_alias] request flag is [true]"),
        (400, "illegal_argument_exception", "no write index is defined for alias [shop.orders]"),
        (400, "illegal_argument_exception", "pipeline with id [x] does not exist"),
        (400, "never_heard_of", "x"),
        (409, "never_heard_of", "x"),
        (404, "mapper_parsing_exception", "x"),
    ] {
        let judged = refusal(status, kind, reason);
        assert!(matches!(judged, Disposition::Definite { .. }), "{kind}: {judged:?}");
    }
}

fn whole() -> (Vec<Item>, String) {
    let items = vec![item(Verb::Index, "1"), item(Verb::Delete, "zwei \"2\""), item(Verb::Index, "3")];
    let answer = r#"{"errors":true,"took":3,"items":[{"index":{"_index":"shop.orders-000001","_id":"1","_version":7,"result":"created","status":201}},{"delete":{"_index":"shop.orders-000001","_id":"zwei \"2\"","_version":7,"result":"not_found","status":404}},{"index":{"_index":"shop.orders-000001","_id":"3","status":400,"error":{"type":"document_parsing_exception","reason":"[1:2] failed","caused_by":{"type":"x"}}}}]}"#;
    (items, answer.to_owned())
}

fn unknown(items: &[Item], answer: &str) {
    let judged = judge(answer.as_bytes(), items, &[target()]);
    assert!(matches!(judged, Err(BulkError::Unknown { .. })), "{answer}: {judged:?}");
}

#[test]
fn a_whole_answer_is_judged_and_every_prefix_of_it_is_unknown() {
    let (items, answer) = whole();
    let judged = judge(answer.as_bytes(), &items, &[target()]).unwrap();
    assert_eq!(judged[..2], [Disposition::Done, Disposition::Done]);
    assert!(matches!(judged[2], Disposition::Poison { .. }));
    for length in 0..answer.len() {
        unknown(&items, &answer[..length]);
    }
    unknown(&items, &format!("{answer}{{}}"));
}

#[test]
fn fault_32_an_answer_for_other_items_is_unknown() {
    let (items, answer) = whole();
    unknown(&items[..2], &answer);
    unknown(&[], &answer);
    let mut more = items.clone();
    more.push(item(Verb::Index, "4"));
    unknown(&more, &answer);
    let mut reordered = items.clone();
    reordered.swap(0, 2);
    unknown(&reordered, &answer);
    for (old, new) in [
        ("\"index\":{\"_index\"", "\"create\":{\"_index\""),
        ("\"_id\":\"1\"", "\"_id\":\"2\""),
        ("\"_id\":\"1\"", "\"_id\":1"),
        ("\"_id\":\"1\",", ""),
        ("\"_id\":\"1\"", "\"_id\":\"1\",\"_id\":\"1\""),
        ("\"status\":201", "\"status\":\"201\""),
        ("\"status\":201", "\"status\":70000"),
        (",\"status\":201", ""),
        ("\"result\":\"created\",", ""),
        ("\"status\":201}}", "\"status\":201},\"index\":{}}"),
        ("\"items\":[", "\"items\":[],\"items\":["),
        ("\"items\":[", "\"other\":["),
        ("\"items\":[", "\"items\":[null,"),
    ] {
        assert!(answer.contains(old));
        unknown(&items, &answer.replacen(old, new, 1));
    }
    for other in ["", "{}", "[]", "null", "<html>502</html>", "{\"items\":null}", "{\"items\":{}}"] {
        unknown(&items, other);
    }
    unknown(&items, &"[".repeat(100_000));
}

#[test]
fn fields_that_are_not_asked_for_are_skipped() {
    let entry = format!(
        "\"index\":{{{HEAD},\"_shards\":{{\"total\":2}},\"_version\":7,\"result\":\"updated\",\"_seq_no\":3,\"status\":200}}"
    );
    assert_eq!(judge_one(Verb::Index, &entry), Ok(Disposition::Done));
}

proptest::proptest! {
    #[test]
    fn a_damaged_answer_never_panics(at in 0_usize..400, byte: u8) {
        let (items, answer) = whole();
        let mut answer = answer.into_bytes();
        let at = at % answer.len();
        answer[at] = byte;
        let _ = judge(&answer, &items, &[target()]);
    }
}
