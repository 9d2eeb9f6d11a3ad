//! Two sinks on one log: one that is away holds the log, and nobody else before the quota.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_is_away_holds_the_log_and_no_other_sink_before_the_quota() {
    let away = Arc::new(ModelEngine::new(false));
    let others = vec![("away".to_owned(), Arc::clone(&away), MemoryCursor::default())];
    let world = World { others, ..World::new(true) };
    // A fifth of the quota.
    let few = [5].repeat(10);
    let running = world.start(&few);
    world.until_all_arrived(&few).await;
    assert_eq!(away.documents(), 0);
    world.shutdown.request();
    running.task.await.unwrap().unwrap();
    let cursor = |store: &MemoryCursor| store.load().unwrap().unwrap_or_default().seq;
    let settled = cursor(&world.cursor);
    assert!(settled > Seq(50) && cursor(&world.others[0].2) < settled);

    // More than the log may have: it is kept for the one that is away, and the source is paused.
    let rows = [5].repeat(400);
    let world =
        World { readiness: Readiness::new(), shutdown: Shutdown::new(), seen: Arc::default(), ..world };
    let running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("quota"), "{reason}");
    world.until("all that the log has", || world.engine.documents() > 100).await;
    assert!(world.has_first_segment(), "it was not settled by all");
    assert_eq!(away.documents(), 0);

    away.is_here(true);
    world.until_all_arrived(&rows).await;
    world.until("all rows in the other", || away.documents() == 2000).await;
    world.until("the log was let go", || !world.has_first_segment()).await;
    running.end(&world).await;
    assert_eq!(cursor(&world.cursor), cursor(&world.others[0].2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_kept_for_a_cursor_that_is_yet_to_come() {
    let world = World::new(true);
    let rows = [5].repeat(400);
    let running = world.start_beside(&rows, Some(Seq(3)));
    let reason = world.until_paused().await;
    assert!(reason.contains("quota") && world.has_first_segment(), "{reason}");
    running.end(&world).await;
}
