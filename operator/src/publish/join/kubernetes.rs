//! The real API server.

use axoneme_proto::TOKEN_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use super::{TokenVerdict, Vouch};

/// Asks the API server.
#[derive(Clone)]
pub struct KubernetesVouch {
    client: Client,
}

impl std::fmt::Debug for KubernetesVouch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubernetesVouch").finish_non_exhaustive()
    }
}

impl KubernetesVouch {
    /// Asks through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Vouch for KubernetesVouch {
    async fn token(&self, token: &str) -> Result<TokenVerdict, kube::Error> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        // An authenticator that knows no audiences answers with none; its word is not enough.
        let for_us = status.audiences.is_some_and(|audiences| audiences.iter().any(|a| a == TOKEN_AUDIENCE));
        let user = status.user.unwrap_or_default();
        let extra = user.extra.unwrap_or_default().into_iter();
        Ok(TokenVerdict {
            authenticated: status.authenticated == Some(true) && for_us,
            username: user.username.unwrap_or_default(),
            extra: extra.filter_map(|(key, values)| Some((key, values.into_iter().next()?))).collect(),
        })
    }

    async fn node_uid(&self, name: &str) -> Result<Option<String>, kube::Error> {
        let node: Option<PartialObjectMeta<Node>> =
            Api::<Node>::all(self.client.clone()).get_metadata_opt(name).await?;
        Ok(node.and_then(|node| node.metadata.uid))
    }
}
