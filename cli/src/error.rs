//! Errors as people read them: one line that says what went wrong, and what to do about what is the same whatever was asked for.

use anyhow::Error;

/// All causes in one line. What the API server says is told in its words.
pub fn line(error: &Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<kube::Error>() {
            parts.push(of_api_server(error));
            break;
        }
        let text = cause.to_string();
        // Some tell what they come from themselves.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

fn of_api_server(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server answers {} {}", status.code, status.reason),
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            format!("the API server does not answer: {}", innermost(error))
        }
        other => other.to_string(),
    }
}

/// What the whole chain comes from, like "Connection refused".
fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What to do, where that follows from the kind of error. `server` is where the API server was looked for.
pub fn advice(error: &Error, server: Option<&str>) -> Option<String> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<kube::Error>())?;
    let server = server.unwrap_or("the kubeconfig's address");
    match error {
        kube::Error::Api(status) if status.code == 401 => {
            Some(format!("{server} does not accept the kubeconfig's credentials: log in anew, or choose another --context"))
        }
        kube::Error::Api(status) if status.code == 403 => Some(
            "who uses this command must be allowed to get pods, nodes and services everywhere, and to create pods/exec where \
             Axoneme is installed; see: kubectl auth can-i --list"
                .to_owned(),
        ),
        kube::Error::Service(_) | kube::Error::HyperError(_) => Some(format!(
            "asked {server}: see whether \"kubectl cluster-info\" reaches it; another cluster is chosen by KUBECONFIG or --context"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> Error {
        let status = Status { code, message: message.into(), reason: "Why".into(), ..Status::default() };
        let result: Result<(), _> = Err(kube::Error::Api(Box::new(status)));
        result.context("cannot list pods").unwrap_err()
    }

    #[test]
    fn the_api_servers_words_are_told_once() {
        let error = api(403, "pods is forbidden: User \"me\" cannot list resource \"pods\"");
        assert_eq!(line(&error), "cannot list pods: pods is forbidden: User \"me\" cannot list resource \"pods\"");
        assert!(advice(&error, None).unwrap().contains("kubectl auth can-i"));
        assert_eq!(line(&api(500, "")), "cannot list pods: the API server answers 500 Why");
        assert_eq!(advice(&api(404, "not found"), None), None);
        assert!(advice(&api(401, "Unauthorized"), Some("https://a")).unwrap().starts_with("https://a does not accept"));
    }

    #[test]
    fn a_server_that_is_gone_is_told_with_its_address() {
        let refused = std::io::Error::from_raw_os_error(111);
        let error = Error::new(kube::Error::Service(Box::new(refused))).context("cannot list pods");
        assert!(line(&error).starts_with("cannot list pods: the API server does not answer: Connection refused"));
        let advice = advice(&error, Some("https://192.0.2.1:6443/")).unwrap();
        assert!(advice.starts_with("asked https://192.0.2.1:6443/: see whether \"kubectl cluster-info\""), "{advice}");
    }

    #[test]
    fn other_errors_are_told_with_all_causes() {
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!((line(&error), advice(&error, None)), ("outer: inner".to_owned(), None));
        let told_twice = anyhow::anyhow!("no such file").context("cannot read a: no such file").context("outer");
        assert_eq!(line(&told_twice), "outer: cannot read a: no such file");
    }
}
