//! The words of the protocol for the TypeScript SDK. Its types are checked against them: an event that
//! danmu-wire gains fails `--check` first, and then the SDK's type check until it knows it.

use std::fmt::Write;

use danmu_wire::{
    CloseCode, PROTOCOL_DEFLATE, PROTOCOL_JSON, PROTOCOL_TOKEN_PREFIX, RefusalCode, action_names,
    event_names, op_names,
};

use crate::{commands::root, openapi::keep};

/// Writes the table, or with `check` only compares it with what is there.
pub(crate) fn run(check: bool) -> Result<(), String> {
    keep(&root().join("server/web/sdk/src/table.ts"), table().as_bytes(), check, "sdk")
}

fn table() -> String {
    let mut text = "// Written by `cargo xtask sdk` from danmu-wire; do not edit.\n\n".to_owned();
    for (name, value) in [
        ("PROTOCOL_JSON", PROTOCOL_JSON),
        ("PROTOCOL_DEFLATE", PROTOCOL_DEFLATE),
        ("PROTOCOL_TOKEN_PREFIX", PROTOCOL_TOKEN_PREFIX),
    ] {
        let _ = writeln!(text, "export const {name} = '{value}';");
    }
    for (what, constant, type_name, names) in [
        ("Every `ev` of an event.", "EVENT_NAMES", "EventName", event_names()),
        ("Every `op` of an operation.", "OP_NAMES", "OpName", op_names()),
        ("Every `do` of what a moderator does.", "ACTION_NAMES", "ActionName", action_names()),
    ] {
        let _ = write!(text, "\n/** {what} */\nexport const {constant} = [\n");
        for name in names {
            let _ = writeln!(text, "  '{name}',");
        }
        let _ = writeln!(text, "] as const;\nexport type {type_name} = (typeof {constant})[number];");
    }
    text.push_str(
        "\n/** Why a server ends a connection, and whether to come back. */\nexport const CLOSE_CODES = {\n",
    );
    for code in CloseCode::ALL {
        let (number, reason, back) = (code.code(), code.reason(), code.reconnect());
        let _ = writeln!(text, "  {number}: {{ reason: {reason:?}, reconnect: {back} }},");
    }
    text.push_str("} as const;\nexport type CloseCode = keyof typeof CLOSE_CODES;\n");
    text.push_str("\n/** Why something was not taken. */\nexport const REFUSALS = {\n");
    for code in RefusalCode::ALL {
        let _ = writeln!(text, "  {}: {:?},", code.code(), code.text());
    }
    text.push_str("} as const;\nexport type RefusalCode = keyof typeof REFUSALS;\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_the_types_say() {
        run(true).unwrap();
    }

    #[test]
    fn the_table_has_all_codes_and_names() {
        let table = table();
        for code in CloseCode::ALL {
            assert!(table.contains(&format!("\n  {}: {{ reason:", code.code())), "{code:?}");
        }
        for name in event_names() {
            assert!(table.contains(&format!("\n  '{name}',")), "{name}");
        }
    }
}
