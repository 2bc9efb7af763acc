//! What is done for a learned list while a server runs: asking who holds a permit, looking who is connected, closing
//! connections that may not stay, and saving.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::Learned;
use crate::server::refresh::{self, Chore};
use crate::server::shared::{Live, PhaseWatch, Running, Shared};
use crate::transport::close::CloseReason;

/// How long what was learned waits to be written, so that many validators that come at once are written once.
const SAVE_DELAY: Duration = Duration::from_secs(10);

/// How long the last save may hold up a stop.
const LAST_SAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// Who holds a permit, as the log calls it. Begins in lower case.
const STAKES: &str = "permitted-stake";

/// Begins, once for each start of the server. What the list says at this moment is in force when this returns: nobody
/// waits for a chain.
pub(in crate::server) fn begin(shared: &Arc<Shared>, running: &Arc<Running>, learned: &Arc<Learned>) {
    learned.decide();
    learned.in_force().log("at first");
    if !shared.config.enforce_source_allowlist {
        info!("learned sources: enforce_source_allowlist is not set, so nobody is turned away");
    }
    refresh::repeat(Stakes { shared: shared.clone(), learned: learned.clone() }, running.phase());
    let keeper = Keeper { shared: shared.clone(), learned: learned.clone(), saves: JoinSet::new() };
    tokio::spawn(keeper.keep(learned.news.subscribe(), running.phase(), running.count()));
}

/// Asks who holds a permit.
struct Stakes {
    shared: Arc<Shared>,
    learned: Arc<Learned>,
}

impl Chore for Stakes {
    fn interval(&self) -> Duration {
        refresh_interval(&self.shared)
    }

    fn news(&self) -> Option<watch::Receiver<u64>> {
        self.learned.permits.news()
    }

    async fn turn(&self, is_first: bool) {
        let permits = self.learned.permits.clone();
        match refresh::ask(STAKES, self.interval(), move || Ok(permits.permitted_stakes())).await {
            Ok(Some(list)) => self.learned.permitted(&list),
            // The list says itself how old its permits are.
            Ok(None) => {}
            Err(failure) => failure.log(STAKES, is_first),
        }
    }
}

/// Does the rest.
struct Keeper {
    shared: Arc<Shared>,
    learned: Arc<Learned>,
    /// At most one, which may hang.
    saves: JoinSet<()>,
}

impl Keeper {
    /// Goes on until the server stops. A stop waits for what is returned by `Running::count`, and so for the last save.
    async fn keep(mut self, mut news: watch::Receiver<()>, mut phase: PhaseWatch, _live: Live) {
        let mut refresh_at = Instant::now() + refresh_interval(&self.shared);
        let mut save_at: Option<Instant> = None;
        let mut stopping = std::pin::pin!(phase.stopping());
        loop {
            let may_save = save_at.filter(|_| self.saves.is_empty());
            tokio::select! {
                biased;
                _ = &mut stopping => break,
                Some(saved) = self.saves.join_next() => note(saved),
                () = sleep_until(refresh_at) => {
                    self.look_around();
                    refresh_at = Instant::now() + refresh_interval(&self.shared);
                    save_at = Some(Instant::now());
                }
                // It cannot fail: the sender is in the list.
                _ = news.changed() => {
                    self.look_around();
                    save_at.get_or_insert(Instant::now() + SAVE_DELAY);
                }
                () = sleep_until(may_save.unwrap_or(refresh_at)), if may_save.is_some() => {
                    save_at = None;
                    self.save();
                }
            }
        }
        self.save();
        let all_saved = async {
            while let Some(saved) = self.saves.join_next().await {
                note(saved);
            }
        };
        if timeout(LAST_SAVE_TIME_MAX, all_saved).await.is_err() {
            warn!("learned sources: the last save takes too long, and is not waited for");
        }
    }

    /// Looks who is connected, decides, and closes connections of those who may not stay.
    fn look_around(&self) {
        let (shared, learned) = (&self.shared, &self.learned);
        let connections = shared.directory.each(|member| {
            let ip = member.connection.remote_address().ip().to_canonical();
            (member.hotkey, member.source_ip, ip)
        });
        learned.attend(&connections);
        learned.decide();
        if shared.config.enforce_source_allowlist {
            let in_force = learned.in_force();
            let closed = shared.directory.close_where(CloseReason::SourceNotAllowed, |member| {
                let ip = member.connection.remote_address().ip();
                !in_force.may_stay(&member.hotkey, ip)
            });
            for hotkey in closed {
                info!(
                    "learned sources: {hotkey} holds no permit and its address is not known: its connection was closed"
                );
            }
        }
    }

    fn save(&mut self) {
        let learned = self.learned.clone();
        if learned.file.is_some() {
            self.saves.spawn_blocking(move || learned.save());
        }
    }
}

fn note(saved: Result<(), tokio::task::JoinError>) {
    if let Err(error) = saved {
        warn!("learned sources: not saved: {error}");
    }
}

fn refresh_interval(shared: &Shared) -> Duration {
    Duration::from_secs(shared.config.source_allowlist_refresh_secs)
}
