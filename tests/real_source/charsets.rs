//! Every character of every character set that a server has reads as the server converts it.

use std::collections::BTreeMap;
use std::path::Path;

use everrelay::source::mysql::charset::Charset;
use everrelay::source::mysql::server::Family;
use everrelay::source::{Source, SourceError};
use mysql_async::prelude::Queryable;

use crate::server::{At, Own, Server};

at_each!(every_character_converts_as_the_server_converts_it);

/// A set's name, one of its collations and the most bytes of a character.
pub type Set = (String, u64, u8);

pub async fn sets(server: &mut Server) -> Vec<Set> {
    server
        .conn
        .query(
            "SELECT c.character_set_name, MIN(n.id), MAX(c.maxlen) FROM information_schema.character_sets c \
             JOIN information_schema.collations n ON n.character_set_name = c.character_set_name \
             WHERE c.character_set_name <> 'binary' GROUP BY c.character_set_name",
        )
        .await
        .unwrap()
}

/// Bytes that may be one character of a set, `n` being numbers from 0 to less than the second value.
fn candidates(name: &str, most_bytes: u8) -> (Vec<&'static str>, u32) {
    let one = "SELECT CHAR(n) c FROM n WHERE n < 256";
    let two = "SELECT CHAR(128 + n DIV 256, n % 256) FROM n WHERE n < 32768";
    let three = "SELECT CHAR(0x8f, 0xa0 + n DIV 96, 0xa0 + n % 96) FROM n WHERE n < 9216";
    let four = "SELECT CHAR(0x81 + n DIV 12600, 0x30 + n DIV 1260 % 10, 0x81 + n DIV 10 % 126, 0x30 + n % 10) FROM n";
    // A scalar value each, and for ucs2 and utf8mb3 none beyond the basic plane.
    let scalar = "SELECT CONVERT(CONVERT(UNHEX(LPAD(HEX(n), 8, '0')) USING utf32) USING SET) c FROM n WHERE n NOT BETWEEN 0xd800 AND 0xdfff";
    match (name, most_bytes) {
        ("ujis" | "eucjpms", _) => (vec![one, two, three], 32_768),
        ("gb18030", _) => (vec![one, two, four], 1_587_600),
        ("ucs2" | "utf8mb3", _) => (vec![scalar], 0x1_0000),
        ("utf8mb4" | "utf16" | "utf16le" | "utf32", _) => (vec![scalar], 0x11_0000),
        (_, 1) => (vec![one], 256),
        _ => (vec![one, two], 32_768),
    }
}

/// The bytes that the server takes for one character of the set, and what it converts each to; `None` where it converts it to none.
async fn characters(server: &mut Server, (name, _, most_bytes): &Set) -> Vec<(Vec<u8>, Option<String>)> {
    let (parts, numbers) = candidates(name, *most_bytes);
    let parts = parts.join(" UNION ALL ").replace("SET", name);
    let rows: Vec<(Vec<u8>, Option<String>)> = server
        .conn
        .query(format!(
            "WITH RECURSIVE n AS (SELECT 0 n UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {numbers}), b AS ({parts}) \
             SELECT CAST(c AS BINARY), CONVERT(u USING utf8mb4) FROM (SELECT c, CONVERT(c USING {name}) u FROM b) d \
             WHERE u IS NOT NULL AND CHAR_LENGTH(u) = 1 AND LENGTH(u) = LENGTH(c)"
        ))
        .await
        .unwrap();
    // What it cannot convert is a question mark; in all of these sets 3F is one.
    let question = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, 0 | b'?'));
    rows.into_iter()
        .filter(|(_, text)| text.as_deref() != Some(""))
        .map(|(bytes, text)| {
            let text = text.filter(|text| text != "?" || question(&bytes));
            (bytes, text)
        })
        .collect()
}

async fn prepared(at: At) -> Server {
    let mut server = Server::on(at, "charsets").await;
    server
        .run(match at {
            At::Mysql => "SET SESSION cte_max_recursion_depth = 2000000",
            At::Mariadb | At::Mariadb10 => "SET SESSION max_recursive_iterations = 2000000",
        })
        .await;
    server
}

async fn every_character_converts_as_the_server_converts_it(at: At) {
    let mut server = prepared(at).await;
    let (mut wrong, mut scratch) = (Vec::new(), String::new());
    let family = if at.is_mariadb() { Family::Mariadb } else { Family::Mysql };
    let sets = sets(&mut server).await;
    assert!(sets.len() > 38, "{sets:?}");
    for set in sets {
        let charset = Charset::of(family, set.1).unwrap();
        let rows = characters(&mut server, &set).await;
        let mut differ = 0;
        for (bytes, server_text) in &rows {
            let (ours, replaced) = charset.decode(bytes, &mut scratch);
            if (ours, replaced) != (server_text.as_deref().unwrap_or("\u{fffd}"), server_text.is_none()) {
                differ += 1;
                if differ < 12 {
                    println!("    {bytes:02x?} server {server_text:?} ours {ours:?}");
                }
            }
        }
        println!("{}: {} characters, {differ} differ", set.0, rows.len());
        if differ > 0 || rows.len() < 120 {
            wrong.push(set.0);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn a_column_of_an_operators_own_collation_stops_the_start_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut usual = Server::new("collation").await;
    let from: String = usual.conn.query_first("SELECT @@character_sets_dir").await.unwrap().unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let index = folder.path().join("Index.xml");
    let text = std::fs::read_to_string(&index).unwrap();
    let ours = "<charset name=\"utf8mb4\"><collation name=\"utf8mb4_phone_ci\" id=\"1029\"><rules><reset>a</reset><i>b</i></rules></collation></charset></charsets>";
    std::fs::write(&index, text.replacen("</charsets>", ours, 1)).unwrap();
    let (_own, url) =
        Own::fresh(At::Mysql, "test-collation", &format!("--character-sets-dir={}", folder.path().display()));
    let mut server = Server::at(&url, "collation").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9))").await;
    let mut follower = server.follow().await;
    // Where it is not followed it stops nothing.
    server.run("CREATE DATABASE other").await;
    let column = "(id INT PRIMARY KEY, number VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_phone_ci)";
    server.run(&format!("CREATE TABLE other.p {column}")).await;
    follower.connect_again().await;
    server.run(&format!("CREATE TABLE p {column}")).await;
    follower.catch_up(&mut server).await;
    let error = follower.source.connect(&follower.read.standing).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SourceError::Definite(_)), "{text}");
    assert!(text.contains("\"number\"") && text.contains(&format!("{}.p", server.schema)), "{text}");
    assert!(text.contains("utf8mb4_phone_ci"), "{text}");
}

/// Writes src/source/mysql/charset/tables.
#[tokio::test]
#[ignore = "makes what is kept in the tree"]
async fn tables_of_character_sets() {
    let mut server = prepared(At::Mysql).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/mysql/charset/tables");
    for set in sets(&mut server).await {
        if set.0.starts_with("utf") || matches!(set.0.as_str(), "ucs2" | "ascii") {
            continue;
        }
        let rows = characters(&mut server, &set).await;
        let found =
            |(bytes, text): &(Vec<u8>, Option<String>)| Some((bytes.clone(), text.as_ref()?.chars().next()?));
        let characters: BTreeMap<Vec<u8>, char> = rows.iter().filter_map(found).collect();
        let mut file = Vec::new();
        for byte in 0..=255 {
            push(characters.get(&vec![byte]), &mut file);
        }
        for (before, length) in [(Some(0x8f), 3), (None, 2)] {
            // What is no character yet takes two bytes as well.
            let pairs = rows.iter().filter(|(bytes, _)| bytes.len() == length);
            let pairs: Vec<(u8, u8)> =
                pairs.map(|(bytes, _)| (bytes[length - 2], bytes[length - 1])).collect();
            let (leads, trails) =
                (pairs.iter().map(|(lead, _)| *lead), pairs.iter().map(|(_, trail)| *trail));
            let (Some(first_lead), Some(last_lead)) = (leads.clone().min(), leads.max()) else { continue };
            let (Some(first_trail), Some(last_trail)) = (trails.clone().min(), trails.max()) else {
                continue;
            };
            file.extend([before.unwrap_or(0), first_lead, last_lead, first_trail, last_trail]);
            for lead in first_lead..=last_lead {
                for trail in first_trail..=last_trail {
                    let bytes: Vec<u8> = before.into_iter().chain([lead, trail]).collect();
                    push(characters.get(&bytes), &mut file);
                }
            }
        }
        std::fs::write(folder.join(&set.0), file).unwrap();
        if set.0 == "gb18030" {
            std::fs::write(folder.join("gb18030.ranges"), runs(&characters)).unwrap();
        }
    }
}

fn push(character: Option<&char>, file: &mut Vec<u8>) {
    let unit = u16::try_from(u32::from(character.copied().unwrap_or('\0'))).expect("of the basic plane");
    file.extend(unit.to_le_bytes());
}

/// The characters of four bytes in the basic plane: number and character where each run of them begins.
fn runs(characters: &BTreeMap<Vec<u8>, char>) -> Vec<u8> {
    let (mut file, mut last) = (Vec::new(), None);
    for (bytes, character) in characters.iter().filter(|(bytes, c)| bytes.len() == 4 && **c < '\u{10000}') {
        let [a, b, c, d] =
            [(0, 0x81), (1, 0x30), (2, 0x81), (3, 0x30)].map(|(at, from)| u32::from(bytes[at] - from));
        let now = (((a * 10 + b) * 126 + c) * 10 + d, u32::from(*character));
        if last.map(|(number, character)| (number + 1, character + 1)) != Some(now) {
            file.extend(u16::try_from(now.0).unwrap().to_le_bytes());
            file.extend(u16::try_from(now.1).unwrap().to_le_bytes());
        }
        last = Some(now);
    }
    file
}
