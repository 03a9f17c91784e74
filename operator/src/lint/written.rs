//! Policies as they were written, where that says more than what they mean.

use serde_json::Value;

use crate::diff::State;
use crate::object::{CiliumPolicy, CiliumRule, Object, ObjectKey};

/// A policy of Cilium's kinds, as it was written.
pub(super) fn cilium<'a>(policy: &ObjectKey, state: &'a State) -> Option<&'a CiliumPolicy> {
    match state.get(policy)? {
        Object::CiliumNetworkPolicy(policy) | Object::CiliumClusterwideNetworkPolicy(policy) => Some(policy),
        _ => None,
    }
}

/// The rule of a policy of Cilium's in which this field is.
fn rule<'a>(field: &str, policy: &'a CiliumPolicy) -> Option<&'a CiliumRule> {
    policy.rules.iter().find(|rule| field.strip_prefix(&*rule.field).is_some_and(|rest| rest.starts_with('.')))
}

/// What people say that a field of a policy is for: the description of its rule, and its object's.
pub(super) fn descriptions<'a>(field: &str, policy: &ObjectKey, state: &'a State) -> Vec<&'a str> {
    let own = cilium(policy, state).and_then(|policy| rule(field, policy)?.rule.description.as_deref());
    own.into_iter().chain(state.description(policy)).collect()
}

/// A list that is empty and is not as good as absent.
pub(super) struct Empty {
    /// Its field.
    pub(super) field: String,
    /// It names peers: so nobody. Else ports: so all.
    pub(super) of_peers: bool,
}

/// The empty lists in a policy of Cilium's.
pub(super) fn empty_lists(policy: &CiliumPolicy) -> Vec<Empty> {
    let mut found = Vec::new();
    for rule in &policy.rules {
        let Ok(value) = serde_json::to_value(&rule.rule) else { continue };
        for direction in ["ingress", "ingressDeny", "egress", "egressDeny"] {
            for (i, clause) in value[direction].as_array().into_iter().flatten().enumerate() {
                empty_lists_of(&format!("{}.{direction}[{i}]", rule.field), clause, &mut found);
            }
        }
    }
    found
}

fn empty_lists_of(field: &str, clause: &Value, found: &mut Vec<Empty>) {
    let empty = |list: &Value| list.as_array().is_some_and(Vec::is_empty);
    let peers: Vec<(&String, &Value)> = peers(clause).collect();
    if peers.iter().all(|(_, list)| empty(list)) {
        found.extend(peers.iter().map(|(name, _)| Empty { field: format!("{field}.{name}"), of_peers: true }));
    }
    if empty(&clause["toPorts"]) {
        found.push(Empty { field: format!("{field}.toPorts"), of_peers: false });
    }
    for (i, ports) in clause["toPorts"].as_array().into_iter().flatten().enumerate() {
        if empty(&ports["ports"]) {
            found.push(Empty { field: format!("{field}.toPorts[{i}].ports"), of_peers: false });
        }
    }
}

fn peers(clause: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let named =
        |(name, _): &(&String, &Value)| name.starts_with("from") || (name.starts_with("to") && *name != "toPorts");
    clause.as_object().into_iter().flatten().filter(named)
}

/// The entities that a rule of Cilium's names at this field, if it names any.
pub(super) fn entities(field: &str, policy: &CiliumPolicy) -> Option<String> {
    let rule = rule(field, policy)?;
    let (direction, place) = field.strip_prefix(&*rule.field)?.strip_prefix('.')?.strip_suffix(']')?.split_once('[')?;
    let value = serde_json::to_value(&rule.rule).ok()?;
    let clause = &value[direction][place.parse::<usize>().ok()?];
    let named = ["fromEntities", "toEntities"].into_iter().find_map(|list| clause[list].as_array())?;
    let names: Vec<&str> = named.iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
