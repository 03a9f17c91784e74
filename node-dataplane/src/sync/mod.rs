//! NodeSync, the node's side: finds an operator, joins, and follows its streams for as long as the daemon runs.
//!
//! Addresses come from the mounted folder, from the operator over its stream and from the checkpoint; where none of them leads,
//! other nodes are asked (see `search`). The server's name is fixed and verified against the mounted CA. A node without a
//! certificate joins with its pod's token; one with a certificate goes straight to its streams. Whatever fails is said in words,
//! and tried again with backoff; the kernel stays as it is.

pub mod alert;
pub mod backoff;
pub mod credentials;
pub mod dial;
pub mod metrics;
pub mod observed;
mod search;
pub mod session;
pub mod staging;
pub mod trust;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use axoneme_proto::nodesync::node_sync_client::NodeSyncClient;
use axoneme_proto::nodesync::{JoinRequest, Welcome};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use self::alert::Alert;
use self::backoff::Backoff;
use self::credentials::{Credentials, CredentialsError};
use self::dial::{Dial, DialError};
use self::metrics::Metrics;
use self::search::Search;
use self::session::{Me, SessionError};
use self::trust::{Operators, TrustError};
use crate::observe::outbox::Outbox;
use crate::reconcile::state::{State, Stopped};

/// How long a join may take: it includes a token review.
const JOIN: Duration = Duration::from_secs(15);
/// A session that lasted so long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// A lost operator is followed by another one within this time, unless something is wrong. Until then it is looked for more often
/// than every 15 s, where nobody answers: pods that start wait for it.
const FAILOVER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3));
/// A delta's chunk, with room for what surrounds it.
const MAX_MESSAGE: usize = 4 << 20;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No address is known.
    #[error("no operator's address is known: ConfigMap axoneme-operators names none yet")]
    NoOperators,
    /// The CA cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Key or certificate cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The token cannot be read.
    #[error("cannot read the token {}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operator does not let this node in.
    #[error("operator {address} does not let this node join: {message} ({code:?})")]
    Join {
        /// Its address.
        address: String,
        /// Kind of reason.
        code: Code,
        /// In the operator's words.
        message: String,
    },
    /// The session ended.
    #[error("session with operator {address}: {source}")]
    Session {
        /// Its address.
        address: String,
        /// Why.
        source: SessionError,
    },
    /// The daemon stops.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Where everything is, and who this is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who says Hello.
    pub me: Me,
    /// The mounted ConfigMap.
    pub operators: PathBuf,
    /// The pod's bound token.
    pub token: PathBuf,
    /// Where key and certificate are kept.
    pub state: PathBuf,
}

/// What others want to know about the connection.
pub trait Watch: Send {
    /// An operator accepted a session; `new_journal` if it is not the one of the last session: it may not know what an earlier
    /// one was told.
    fn connected(&mut self, new_journal: bool);
    /// There is no session, for this reason.
    fn disconnected(&mut self, why: &SyncError);
}

/// The client.
#[allow(missing_debug_implementations, reason = "holds trait objects")]
pub struct Sync<W> {
    config: Config,
    operators: Operators,
    credentials: Credentials,
    dial: Box<dyn Dial>,
    state: State,
    outbox: Outbox,
    watch: W,
    metrics: Metrics,
    /// Addresses that an operator told of, the one that worked last first.
    known: Vec<String>,
    /// Other nodes on which somebody listens where operators do.
    found: Vec<String>,
    search: Search,
    epoch: Vec<u8>,
}

impl<W: Watch> Sync<W> {
    /// A client that starts with the addresses of the checkpoint.
    ///
    /// # Errors
    /// When there is no key and none can be made.
    pub fn new(
        config: Config,
        dial: Box<dyn Dial>,
        known: Vec<String>,
        state: State,
        outbox: Outbox,
        watch: W,
        metrics: Metrics,
    ) -> Result<Self, CredentialsError> {
        let credentials = Credentials::load(&config.state)?;
        let operators = Operators::new(config.operators.clone());
        Ok(Self {
            config,
            operators,
            credentials,
            dial,
            state,
            outbox,
            watch,
            metrics,
            known,
            found: Vec::new(),
            search: Search::soon(),
            epoch: Vec::new(),
        })
    }

    /// Follows operators until the daemon stops.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut said: Option<String> = None;
        let mut alone = Instant::now();
        loop {
            let start = Instant::now();
            let (err, connected) = self.pass().await;
            if connected {
                alone = Instant::now();
                self.search = Search::soon();
            }
            self.state.connected(false);
            if matches!(&err, SyncError::Stopped(_) | SyncError::Session { source: SessionError::Stopped(_), .. }) {
                return;
            }
            self.metrics.failed(&err);
            self.watch.disconnected(&err);
            if start.elapsed() >= GOOD {
                backoff.reset();
                said = None;
            }
            let pause = match &err {
                // It went in order, and a successor is at hand.
                SyncError::Session { source: SessionError::Drain(pause), .. } => {
                    backoff.reset();
                    *pause
                }
                _ if alone.elapsed() < FAILOVER.0 && telling(&err) == 0 => backoff.pause_within(FAILOVER.1),
                _ => backoff.pause(),
            };
            // The same reason again and again is said once.
            if said.as_deref() == Some(err.to_string().as_str()) {
                tracing::debug!(err = &err as &dyn std::error::Error, retry_in = ?pause, "not connected to an operator");
            } else {
                tracing::warn!(err = &err as &dyn std::error::Error, retry_in = ?pause, "not connected to an operator");
                said = Some(err.to_string());
            }
            if !connected && is_away(&err) {
                self.found = self.look_around(Instant::now() + pause).await;
            } else {
                sleep(pause).await;
            }
        }
    }

    /// Looks for an operator on other nodes until it is time for the next pass, or somebody answers there.
    async fn look_around(&mut self, until: Instant) -> Vec<String> {
        while self.search.due() <= until {
            sleep_until(self.search.due()).await;
            if self.search.is_over() {
                let Ok(nodes) = self.state.nodes().await else { break };
                let elsewhere = self.elsewhere(&nodes);
                self.search.begin(elsewhere);
            }
            let (asked, found) = self.search.step(&*self.dial).await;
            self.metrics.asked(asked);
            if !found.is_empty() {
                tracing::info!(?found, "other nodes may have an operator");
                return found;
            }
        }
        sleep_until(until).await;
        Vec::new()
    }

    /// Where operators would listen on nodes that are not known to have one.
    fn elsewhere(&self, nodes: &[IpAddr]) -> Vec<String> {
        let mounted = self.operators.addresses();
        let known: Vec<SocketAddr> = self.known.iter().chain(&mounted).filter_map(|one| one.parse().ok()).collect();
        let Some(port) = known.first().map(SocketAddr::port) else { return Vec::new() };
        let all = nodes.iter().map(|node| SocketAddr::new(*node, port));
        all.filter(|address| !known.contains(address)).map(|address| address.to_string()).collect()
    }

    /// Tries every address once; a session that came about ends the pass. Returns the most telling error, and whether there was
    /// a session.
    async fn pass(&mut self) -> (SyncError, bool) {
        let mut addresses = std::mem::take(&mut self.found);
        addresses.extend(self.known.iter().cloned());
        addresses.extend(self.operators.addresses());
        let mut last = SyncError::NoOperators;
        let mut tried: Vec<String> = Vec::new();
        for address in addresses {
            if tried.contains(&address) {
                continue;
            }
            let (err, connected) = self.attempt(&address).await;
            if connected {
                return (err, true);
            }
            if tried.is_empty() || telling(&err) > telling(&last) {
                last = err;
            }
            tried.push(address);
        }
        (last, false)
    }

    /// One operator; and whether there was a session.
    async fn attempt(&mut self, address: &str) -> (SyncError, bool) {
        let (channel, alert) = match self.channel(address).await {
            Ok(connected) => connected,
            Err(err) => return (err, false),
        };
        let client = NodeSyncClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let mut seen = Seen {
            address,
            welcomed: false,
            this: SeenBy {
                known: &mut self.known,
                epoch: &mut self.epoch,
                state: &self.state,
                watch: &mut self.watch,
                metrics: &self.metrics,
            },
        };
        let source = {
            let desired = session::run(client.clone(), &self.config.me, &self.state, &mut self.credentials, &mut seen);
            tokio::select! {
                err = desired => err,
                never = observed::run(client, &self.outbox) => match never {},
            }
        };
        let welcomed = seen.welcomed;
        self.metrics.connected(false);
        if !welcomed {
            if let Some(alert) = alert.get() {
                self.credentials.forget();
                return (DialError::Refused { address: address.to_owned(), alert: alert.to_owned() }.into(), false);
            }
            // The Node may have been made anew: a certificate names one Node for good. A join says more.
            let unwelcome = |code| matches!(code, Code::Unauthenticated | Code::PermissionDenied);
            if matches!(&source, SessionError::Rpc(status) if unwelcome(status.code())) {
                self.credentials.forget();
            }
        }
        (SyncError::Session { address: address.to_owned(), source }, welcomed)
    }

    /// A channel with a client certificate; joins for one if need be.
    async fn channel(&mut self, address: &str) -> Result<(Channel, Alert), SyncError> {
        if self.credentials.client().is_none() {
            self.join(address).await?;
        }
        let roots = self.operators.roots(self.credentials.ca())?;
        match dial::connect(&*self.dial, address, roots, self.credentials.client()).await {
            Err(err @ (DialError::Refused { .. } | DialError::Own(_))) => {
                self.credentials.forget();
                Err(err.into())
            }
            result => Ok(result?),
        }
    }

    async fn join(&mut self, address: &str) -> Result<(), SyncError> {
        let path = &self.config.token;
        let token = fs::read_to_string(path).map_err(|source| SyncError::Token { path: path.clone(), source })?;
        let (channel, _) = dial::connect(&*self.dial, address, self.operators.roots(None)?, None).await?;
        let request = JoinRequest { token: token.trim().to_owned(), csr_der: self.credentials.request()? };
        let refused = |status: Status| SyncError::Join {
            address: address.to_owned(),
            code: status.code(),
            message: status.message().to_owned(),
        };
        let mut client = NodeSyncClient::new(channel);
        let answer = timeout(JOIN, client.join(request)).await;
        let answer = answer.map_err(|_| refused(Status::deadline_exceeded("no answer")))?.map_err(refused)?;
        self.credentials.store(answer.into_inner().certificate.ok_or(CredentialsError::Certificate)?)?;
        tracing::info!(operator = address, "joined");
        Ok(())
    }
}

/// Whether nobody who leads was where operators are known to be: nobody, one who stands by, or a stranger.
fn is_away(err: &SyncError) -> bool {
    telling(err) < 2 || matches!(err, SyncError::Dial(DialError::Server { .. } | DialError::Tls { .. }))
}

/// How much an error says: that a replica is gone or does not lead is common, and says less than any other reason.
fn telling(err: &SyncError) -> u8 {
    match err {
        SyncError::Dial(DialError::Connect { .. }) => 0,
        SyncError::Join { code: Code::Unavailable, .. } => 1,
        SyncError::Session { source: SessionError::Rpc(status), .. } if status.code() == Code::Unavailable => 1,
        _ => 2,
    }
}

/// The parts of a client that a session changes, beside its credentials.
struct SeenBy<'a, W> {
    known: &'a mut Vec<String>,
    epoch: &'a mut Vec<u8>,
    state: &'a State,
    watch: &'a mut W,
    metrics: &'a Metrics,
}

struct Seen<'a, W> {
    address: &'a str,
    welcomed: bool,
    this: SeenBy<'a, W>,
}

impl<W: Watch> session::Observer for Seen<'_, W> {
    fn welcomed(&mut self, welcome: &Welcome) {
        self.welcomed = true;
        tracing::info!(operator = self.address, resumed = welcome.resumed, "connected");
        self.this.state.connected(true);
        self.operators(welcome.operators.clone());
        self.this.metrics.connected(true);
        self.this.watch.connected(*self.this.epoch != welcome.epoch);
        self.this.epoch.clone_from(&welcome.epoch);
    }

    fn operators(&mut self, addresses: Vec<String>) {
        let mut known = vec![self.address.to_owned()];
        known.extend(addresses.into_iter().filter(|other| *other != *self.address));
        self.this.state.operators(known.clone());
        *self.this.known = known;
    }

    fn committed(&mut self) {
        self.this.metrics.committed();
    }
}
