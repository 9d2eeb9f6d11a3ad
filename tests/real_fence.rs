//! Two relays and one index.

mod support;

use std::time::Duration;

use anyhow::{Result, ensure};

use support::ensure_says;
use support::relay::Relay;
use support::stage::Stage;

const SOON: Duration = Duration::from_secs(120);

#[tokio::test]
async fn fault_39_a_second_relay_with_a_folder_of_its_own_ends_with_4_until_the_first_is_gone_for_a_lease()
-> Result<()> {
    let name =
        "fault_39_a_second_relay_with_a_folder_of_its_own_ends_with_4_until_the_first_is_gone_for_a_lease";
    let mut stage = Stage::set(name, 100).await?;
    let workload = stage.workload(Some(50));
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    stage.relay.until_settled(SOON).await?;
    let mut second = Relay::prepare(&stage.relay.dir.join("second"), stage.relay.options.clone())?;
    second.start()?;
    let status = second.exit(SOON).await?;
    ensure!(status.code() == Some(4), "{status}: {}", second.words());
    ensure_says(&second.words(), &["at this moment", "on host", "--take-over"])?;
    workload.stop().await?;
    stage.agree(SOON).await?;
    // Gone, and nobody was told so: what it left is waited for, and its lease.
    stage.relay.kill()?;
    second.start()?;
    second.until_settled(SOON).await?;
    second.kill()?;
    stage.clear().await
}
