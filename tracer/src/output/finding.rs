//! The columns of a finding.

use crate::{
    findings::{Finding, Severity, rules::all_rules},
    output::column::{Column, Value, Visibility::Data, columns},
    tcp::{labels::Enumeration, role::Role},
};

const IDS: Enumeration =
    Enumeration { name: "finding", all: || all_rules().map(|rule| rule.id).collect() };

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn text_or_null(text: Option<&String>) -> Value {
    Value::known(text.cloned(), Value::Text)
}

/// All columns of a finding.
pub const COLUMNS: &[Column<Finding>] = columns! {
    "id" "" Word(IDS), Data, "The rule, listed in docs/findings.md.", |f| Value::Word(f.rule.id);
    "severity" "" Word(Severity::NAMES), Data, "How urgent it is: critical, warning or notice.", |f| Value::Word(f.severity.name());
    "title" "" Text, Data, "The problem in a few words.", |f| text(f.title);
    "role" "" Word(Role::NAMES), Data, "The side that this host is: server, client or unknown.", |f| Value::role(f.role);
    "port" "" Number or null, Data, "The service port; null if the row covers several.", |f| Value::known(f.port, |port| Value::Int(port.into()));
    "remote" "" Address or null, Data, "The address that clients connect to; null for servers.", |f| Value::known(f.remote, |ip| Value::Text(ip.to_string()));
    "owner" "" Text or null, Data, "The process to look at; ×N if there are N with different names.", |f| text_or_null(f.owner.as_ref());
    "pid" "" Number or null, Data, "Its id; null if unknown, or if it may be one of several.", |f| Value::known(f.pid, |pid| Value::Int(pid.into()));
    "container" "" Text or null, Data, "The container in which it runs.", |f| text_or_null(f.container.as_ref());
    "pod" "" Text or null, Data, "The container's Kubernetes pod.", |f| text_or_null(f.pod.as_ref());
    "netns" "" Number or null, Data, "Inode number of the network namespace; null if there are several.", |f| Value::known(f.netns, |inode| Value::Int(inode.into()));
    "netns_name" "" Text or null, Data, "Name of the network namespace.", |f| text_or_null(f.netns_name.as_ref());
    "count" "" Count("connections"), Data, "Number of connections, attempts or segments that have the problem.", |f| Value::Int(f.count);
    "seen" "" Text, Data, "The observation, with its numbers.", |f| text(&f.seen);
    "since" "" Time or null, Data, "When it began; null if unknown.", |f| Value::known(f.since(), Value::Text);
    "since_at_least" "" Bool, Data, "Whether it may have begun before that.", |f| Value::Bool(f.is_since_a_bound());
    "affects" "" Text or null, Data, "What it causes on this host, one per line.", |f| Value::known((!f.affects.is_empty()).then(|| f.affects.join("\n")), Value::Text);
    "matters" "" Text, Data, "The consequences.", |f| text(f.matters);
    "reasons" "" Text or null, Data, "Ids of the close reasons of the connections, separated by commas; null if they have not ended.", |f| Value::known((!f.reasons.is_empty()).then(|| f.reasons.iter().map(|reason| reason.id()).collect::<Vec<_>>().join(",")), Value::Text);
    "knob" "" Text, Data, "What to check or change.", |f| text(&f.advice);
    "command" "" Text, Data, "The command that shows more.", |f| text(&f.next_step.command);
    "capture" "" Text or null, Data, "The command that captures the segments.", |f| text_or_null(f.next_step.capture.as_ref());
};
