use super::super::tls::{Peer, testing};
use super::*;
use rustls::pki_types::{CertificateDer, pem::PemObject};

struct Fake {
    verdict: TokenVerdict,
    node: Option<&'static str>,
}

impl Vouch for Fake {
    async fn token(&self, token: &str) -> Result<TokenVerdict, kube::Error> {
        Ok(if token == "good" { self.verdict.clone() } else { TokenVerdict::default() })
    }

    async fn node_uid(&self, name: &str) -> Result<Option<String>, kube::Error> {
        if self.node == Some("away") {
            return Err(kube::Error::LinesCodecMaxLineLengthExceeded);
        }
        Ok((name == "n1").then_some(self.node).flatten().map(str::to_owned))
    }
}

fn verdict() -> TokenVerdict {
    let extra = [(NODE_NAME, "n1"), (NODE_UID, "u1"), (POD_NAME, "axoneme-x"), (POD_UID, "p1")];
    TokenVerdict {
        authenticated: true,
        username: "system:serviceaccount:kube-system:axoneme-node".into(),
        extra: extra.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

fn registrar(verdict: TokenVerdict, node: Option<&'static str>) -> Registrar<Fake> {
    let lifetime = Duration::from_secs(3600);
    Registrar::new(Fake { verdict, node }, testing::authority(), "kube-system", "axoneme-node", lifetime)
}

#[tokio::test]
async fn a_daemon_gets_a_certificate_that_names_its_node_and_nothing_it_asked_for() {
    let registrar = registrar(verdict(), Some("u1"));
    let (_, csr) = testing::key_and_csr();
    let certificate = registrar.join("good", &csr).await.unwrap();
    let leaf = CertificateDer::from_pem_slice(certificate.chain_pem.as_bytes()).unwrap();
    let expected = NodeName { name: "n1".into(), uid: "u1".into() };
    assert_eq!(Peer::of(Some(std::slice::from_ref(&leaf))).unwrap(), Peer::Node(expected.clone()));
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    assert_eq!(parsed.subject().iter_common_name().next().unwrap().as_str().unwrap(), "n1");
    let rest = certificate.renew_after_unix - OffsetDateTime::now_utc().unix_timestamp();
    assert!((1790..=2400).contains(&rest), "{rest}");
    registrar.renew(&expected, &csr).await.unwrap();
}

#[test]
fn nodes_that_joined_together_do_not_renew_together() {
    let day = Duration::from_secs(86_400);
    let mut times: Vec<Duration> = (0..500).map(|number| renewal(&format!("node-{number}"), day)).collect();
    times.sort_unstable();
    assert!(times[0] >= day / 2 && times[499] <= day * 2 / 3);
    // Four hours for 500: half a minute for each, on average.
    let at_once =
        |from: &Duration| times.iter().filter(|at| (*from..*from + Duration::from_secs(60)).contains(*at)).count();
    let most = times.iter().map(at_once).max().unwrap();
    assert!(most <= 12, "{most} within a minute");
}

#[tokio::test]
async fn others_are_refused() {
    let (_, csr) = testing::key_and_csr();
    let without = |key: &str| {
        let mut verdict = verdict();
        verdict.extra.retain(|(name, _)| name != key);
        verdict
    };
    let user = TokenVerdict { username: "system:serviceaccount:kube-system:default".into(), ..verdict() };
    let code = |error: JoinError| Status::from(error).code();
    use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated};

    let fine = registrar(verdict(), Some("u1"));
    assert_eq!(code(fine.join("bad", &csr).await.unwrap_err()), Unauthenticated);
    assert_eq!(code(fine.join("", &csr).await.unwrap_err()), Unauthenticated);
    assert_eq!(code(fine.join(&"x".repeat(MAX_TOKEN + 1), &csr).await.unwrap_err()), Unauthenticated);
    assert_eq!(code(fine.join("good", b"no csr").await.unwrap_err()), InvalidArgument);
    assert_eq!(code(registrar(user, Some("u1")).join("good", &csr).await.unwrap_err()), PermissionDenied);
    for key in [NODE_NAME, NODE_UID, POD_NAME, POD_UID] {
        let error = registrar(without(key), Some("u1")).join("good", &csr).await.unwrap_err();
        assert!(matches!(error, JoinError::Unbound(missing) if missing == key));
    }
    for live in [None, Some("u2")] {
        let error = registrar(verdict(), live).join("good", &csr).await.unwrap_err();
        assert!(matches!(error, JoinError::NodeGone(_)));
        let node = NodeName { name: "n1".into(), uid: "u1".into() };
        assert!(registrar(verdict(), live).renew(&node, &csr).await.is_err());
    }
}

#[tokio::test]
async fn a_known_node_stays_while_the_api_server_is_away_but_none_joins() {
    let node = NodeName { name: "n1".into(), uid: "u1".into() };
    let away = registrar(verdict(), Some("away"));
    away.not_gone(&node).await.unwrap();
    let (_, csr) = testing::key_and_csr();
    assert_eq!(Status::from(away.join("good", &csr).await.unwrap_err()).code(), tonic::Code::Unavailable);
    assert!(registrar(verdict(), None).not_gone(&node).await.is_err());
}
