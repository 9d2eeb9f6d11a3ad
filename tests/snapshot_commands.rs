//! `everrelay snapshot` against a control socket with a source behind it that answers as told.

use std::path::Path;
use std::process::Output;

use everrelay::admin::control;
use everrelay::event::TableName;
use everrelay::lifecycle::Shutdown;
use everrelay::source::orders::{self, OrderQueue, Refused, SnapshotOrder, Tables};

/// A state folder, and a configuration that names it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir_all(state.join("main")).unwrap();
        let text = format!(
            "[source]\nurl = \"mysql://relay@127.0.0.1:1\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://127.0.0.1:1\"\n\
             [state]\ndir = {state:?}\n[admin]\nlisten = \"127.0.0.1:1\"\n"
        );
        std::fs::write(folder.path().join("everrelay.toml"), text).unwrap();
        Folder(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Serves the socket for as long as `shutdown` is not requested.
    fn serve(&self, shutdown: &Shutdown) -> OrderQueue {
        let (orders, queue) = orders::channel();
        let control = control::bind(&self.path().join("state/main/control.sock")).unwrap();
        tokio::spawn(control.serve(orders, shutdown.clone()));
        queue
    }

    async fn everrelay(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_everrelay"));
        command.arg("snapshot").args(arguments).env("EVERRELAY_CONFIG", self.path().join("everrelay.toml"));
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }
}

fn table(name: &str) -> TableName {
    TableName::new("shop", name)
}

#[tokio::test]
async fn each_command_is_the_order_that_it_says_and_prints_what_was_done() {
    let (folder, shutdown) = (Folder::new(), Shutdown::new());
    let mut queue = folder.serve(&shutdown);
    let source = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..6 {
            let taken = queue.next().await;
            seen.push(taken.order.clone());
            taken.answer(Ok(vec![table("orders"), table("lines")]));
        }
        seen
    });
    let wanted = (Some(0), "shop.orders wanted\nshop.lines wanted\n".to_owned(), String::new());
    assert_eq!(folder.everrelay(&["shop.orders", "shop.lines"]).await, wanted);
    assert_eq!(folder.everrelay(&["--all"]).await, wanted);
    assert_eq!(folder.everrelay(&["shop.orders", "--where", "id > 7"]).await, wanted);
    let (_, paused, _) = folder.everrelay(&["pause"]).await;
    assert_eq!(paused, "shop.orders paused\nshop.lines paused\n");
    let (_, resumed, _) = folder.everrelay(&["resume", "shop.orders", "--json"]).await;
    assert_eq!(resumed, "{\"tables\":[\"shop.orders\",\"shop.lines\"]}\n");
    folder.everrelay(&["cancel", "shop.orders"]).await;
    let orders = || Tables::Named(vec![table("orders")]);
    let both = Tables::Named(vec![table("orders"), table("lines")]);
    let begin =
        |tables, filter: Option<&str>| SnapshotOrder::Begin { tables, filter: filter.map(str::to_owned) };
    let expected = [
        begin(both, None),
        begin(Tables::All, None),
        begin(orders(), Some("id > 7")),
        SnapshotOrder::Pause(Tables::All),
        SnapshotOrder::Resume(orders()),
        SnapshotOrder::Cancel(orders()),
    ];
    assert_eq!(source.await.unwrap(), expected);
    shutdown.request();
}

#[tokio::test]
async fn what_is_refused_says_why_and_ends_with_the_code_of_a_wrong_command() {
    let (folder, shutdown) = (Folder::new(), Shutdown::new());
    let mut queue = folder.serve(&shutdown);
    tokio::spawn(async move { queue.next().await.answer(Err(Refused("shop.other is not followed".into()))) });
    let (code, out, words) = folder.everrelay(&["shop.other"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(words.contains("shop.other is not followed"), "{words}");
    for (arguments, expected) in [
        (&["orders"][..], "named schema.table"),
        (&[], "say which tables"),
        (&["shop.orders", "--all"], "cannot be used with"),
    ] {
        let (code, _, words) = folder.everrelay(arguments).await;
        assert!(code == Some(2) && words.contains(expected), "{arguments:?}: {code:?} {words}");
    }
    shutdown.request();
}

#[tokio::test]
async fn without_a_relay_the_command_says_that_none_runs() {
    let folder = Folder::new();
    let none = |(code, _, words): (Option<i32>, String, String)| {
        assert!(code == Some(1) && words.contains("no relay runs on"), "{code:?} {words}");
    };
    none(folder.everrelay(&["shop.orders"]).await);
    // A killed relay leaves its socket behind.
    drop(control::bind(&folder.path().join("state/main/control.sock")).unwrap());
    none(folder.everrelay(&["shop.orders"]).await);
}
