//! Takes back what is not true any more.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tokio::time::sleep;
use tracing::{info, warn};

use super::PACE;
use super::condition;
use super::kinds::CustomKind;
use super::object::Slim;

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// Before a kind is gone through again in which something failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Takes the condition away from all objects of these kinds, of which it says something else than is true: an earlier release
/// has written it. Ends when all were looked at; nobody else writes it meanwhile, because one operator leads.
pub async fn withdraw_conditions(client: &Client, kinds: &[CustomKind]) {
    for kind in kinds {
        loop {
            match withdraw(client, kind).await {
                Ok(0) => break,
                Ok(count) => {
                    info!(kind = kind.resource.kind, count, "objects are not said to have no effect any more");
                    break;
                }
                Err(error) => {
                    warn!(kind = kind.resource.kind, %error, "objects may still be said to have no effect");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Gives back how many had it.
async fn withdraw(client: &Client, kind: &CustomKind) -> Result<usize, kube::Error> {
    let api = Api::<Slim>::all_with(client.clone(), &kind.resource);
    let (mut count, mut page) = (0, ListParams::default().limit(PAGE));
    loop {
        let list = api.list(&page).await?;
        for object in list.items.iter().filter(|object| object.is_marked()) {
            condition::remove(client, kind, &object.reference(&kind.resource)).await?;
            count += 1;
            sleep(PACE).await;
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(count),
        }
    }
}
