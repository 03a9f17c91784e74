//! The CNI plugin, run as a runtime runs it.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

/// What a runtime says beside the configuration; `arguments` as in `CNI_ARGS`.
pub struct Call<'a> {
    pub command: &'a str,
    pub container: &'a str,
    pub netns: &'a str,
    pub arguments: &'a str,
}

/// The plugin's answer: its result, or its error.
pub async fn run(plugin: &Path, call: Call<'_>, config: &Value) -> Result<Value, Value> {
    let environment: HashMap<&str, &str> = [
        ("CNI_COMMAND", call.command),
        ("CNI_CONTAINERID", call.container),
        ("CNI_NETNS", call.netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", call.arguments),
        ("CNI_PATH", "/opt/cni/bin"),
    ]
    .into();
    let mut child = tokio::process::Command::new(plugin)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let value = if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() };
    if output.status.success() { Ok(value) } else { Err(value) }
}
