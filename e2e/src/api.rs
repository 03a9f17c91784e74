//! A small blocking client of the API server, for the harness' own questions: a process of kubectl for each would cost more
//! than the answer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::runtime::Runtime;

/// A client of one cluster's API server, with the rights of its kubeconfig.
pub struct Api {
    runtime: Runtime,
    client: kube::Client,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    /// A client by a kubeconfig. Nothing is sent yet.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let file = Kubeconfig::read_from(kubeconfig)?;
            let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
            config.connect_timeout = Some(Duration::from_secs(2));
            config.read_timeout = Some(Duration::from_secs(30));
            anyhow::Ok(kube::Client::try_from(config)?)
        });
        Ok(Self { runtime, client: client.with_context(|| format!("cannot use {}", kubeconfig.display()))? })
    }

    /// Sends a request and gives the body of a good answer as text.
    pub fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<String> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let bytes = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let request = Request::builder().method(method.clone()).uri(path).header("content-type", kind).body(bytes)?;
        self.runtime.block_on(self.client.request_text(request)).with_context(|| format!("{method} {path}"))
    }

    /// The text at a path.
    pub fn raw(&self, path: &str) -> Result<String> {
        self.send(Method::GET, path, None)
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.raw(path)?).with_context(|| format!("GET {path} is no JSON"))
    }

    /// The object at a path, or none if there is none.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path) {
            Ok(object) => Ok(Some(object)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The items of a list.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        match self.get(path)?["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("GET {path} is no list"),
        }
    }

    /// Creates an object.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        Ok(serde_json::from_str(&self.send(Method::POST, path, Some(object))?)?)
    }

    /// Deletes an object; it is fine if there is none.
    pub fn delete(&self, path: &str) -> Result<()> {
        match self.send(Method::DELETE, path, None) {
            Err(error) if status(&error) != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes an object by a JSON merge patch.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<()> {
        self.send(Method::PATCH, path, Some(patch)).map(drop)
    }

    /// Asks until `ready` gives something, for at most `patience`; `what` names the wait if it fails. Errors of the API
    /// server count as "not yet": it may be restarting.
    pub fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ready: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let answer = ready(self);
            if let Ok(Some(value)) = answer {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                let context = format!("waited {} for {what}", crate::progress::duration(patience));
                return match answer {
                    Err(error) => Err(error.context(context)),
                    Ok(_) => bail!(context),
                };
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The HTTP status of an error that the API server answered with.
pub fn status(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}
