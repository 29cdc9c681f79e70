//! `mcp config`: what to put where, so that a client starts the server.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::{McpClient, McpConfigArgs},
    commands::{Context, Outcome},
    failure::{Failure, reason},
    output::{Format, Text, quote},
};

/// For a program.
#[derive(Serialize)]
struct Answer {
    client: &'static str,
    /// Where to put it.
    file: &'static str,
    /// What to put there.
    content: String,
    /// Or what to run instead.
    command: Option<String>,
}

pub(super) fn run(context: Context<'_>, args: &McpConfigArgs) -> Outcome {
    let program = std::env::current_exe().map_err(|error| {
        Failure::failed(format!(
            "can't tell where borealisctl is: {}",
            reason(&error)
        ))
    })?;
    let mut words = Vec::new();
    if let Some(socket) = context.socket {
        words.extend(["--socket".to_owned(), socket.display().to_string()]);
    }
    words.push("mcp".into());
    words.extend(args.targets.iter().cloned());
    let answer = Answer::of(args.client, &program.display().to_string(), &words);
    match context.output.format {
        Format::Json | Format::Yaml => context.output.value(&answer)?,
        Format::Csv => {
            let pairs = [
                ("client", answer.client),
                ("file", answer.file),
                ("content", &answer.content),
            ];
            context.output.pairs(["key", "value"], pairs)?;
        }
        Format::Table => {
            let mut text = Text::lines(format!(
                "Put this into {}:\n\n{}\n",
                answer.file, answer.content
            ));
            if let Some(command) = &answer.command {
                text.push(format!("\nOr run:\n\n{command}\n"));
            }
            context.output.text(&text)?;
        }
    }
    Ok(0)
}

// === impl Answer ===

impl Answer {
    fn of(client: McpClient, program: &str, words: &[String]) -> Self {
        let server = json!({"command": program, "args": words});
        let listed = |key: &str, server: Value| {
            let file = json!({key: {"borealis": server}});
            // Made of texts: it can always be written.
            serde_json::to_string_pretty(&file).unwrap_or_default()
        };
        let (client, file, content) = match client {
            McpClient::Claude => (
                "claude",
                ".mcp.json of the project",
                listed("mcpServers", server),
            ),
            McpClient::Cursor => (
                "cursor",
                "~/.cursor/mcp.json, or .cursor/mcp.json of the project",
                listed("mcpServers", server),
            ),
            McpClient::Vscode => {
                let server = json!({"type": "stdio", "command": program, "args": words});
                (
                    "vscode",
                    ".vscode/mcp.json of the project",
                    listed("servers", server),
                )
            }
            McpClient::Codex => ("codex", "~/.codex/config.toml", toml(program, words)),
            McpClient::Zed => (
                "zed",
                "~/.config/zed/settings.json",
                listed("context_servers", server),
            ),
        };
        let add = match client {
            "claude" => Some("claude mcp add borealis --"),
            "codex" => Some("codex mcp add borealis --"),
            _ => None,
        };
        let command = add.map(|add| {
            let words = words.iter().map(String::as_str);
            let words = std::iter::once(program).chain(words).map(quote::sh);
            format!("{add} {}", words.collect::<Vec<_>>().join(" "))
        });
        Self {
            client,
            file,
            content,
            command,
        }
    }
}

/// Strings of JSON are strings of TOML.
fn toml(program: &str, words: &[String]) -> String {
    let words: Vec<_> = words.iter().map(|word| json!(word).to_string()).collect();
    format!(
        "[mcp_servers.borealis]\ncommand = {}\nargs = [{}]",
        json!(program),
        words.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_its_own_form() {
        let words = ["mcp".to_owned(), "sushi".to_owned()];
        let of = |client| Answer::of(client, "/opt/my bin/borealisctl", &words);
        for (client, key) in [
            (McpClient::Claude, "mcpServers"),
            (McpClient::Cursor, "mcpServers"),
            (McpClient::Vscode, "servers"),
            (McpClient::Zed, "context_servers"),
        ] {
            let content: Value = serde_json::from_str(&of(client).content).unwrap();
            let server = &content[key]["borealis"];
            assert_eq!(server["command"], "/opt/my bin/borealisctl");
            assert_eq!(server["args"], json!(["mcp", "sushi"]));
        }
        assert_eq!(
            of(McpClient::Codex).content,
            "[mcp_servers.borealis]\ncommand = \"/opt/my bin/borealisctl\"\nargs = [\"mcp\", \"sushi\"]"
        );
        assert_eq!(
            of(McpClient::Claude).command.unwrap(),
            "claude mcp add borealis -- '/opt/my bin/borealisctl' mcp sushi"
        );
    }
}
