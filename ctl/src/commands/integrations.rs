//! `integrations`: data integrations.

use borealis_proto::v1;

use super::{Context, Outcome, access, confirm, target};
use crate::{
    args::{
        TargetArgs,
        addons::{IntegrationsAction, IntegrationsArgs, RegisterArgs, RemoveIntegrationArgs},
    },
    failure::Failure,
};

pub(super) async fn run(context: Context<'_>, args: IntegrationsArgs) -> Outcome {
    match args.action {
        None => list(context, target::one(&args.target).await?).await,
        Some(IntegrationsAction::Register(inner)) => register(context, args.target, inner).await,
        Some(IntegrationsAction::Remove(inner)) => {
            let target = target::merged(args.target, &inner.target).await?;
            remove(context, target, inner).await
        }
    }
}

async fn list(context: Context<'_>, target: v1::Target) -> Outcome {
    let answer = context.daemon().await?.integrations(target).await?;
    context.output.integrations(&answer.integrations)?;
    if answer.integrations.is_empty() {
        context.output.note("no data integrations are registered");
    }
    Ok(0)
}

async fn register(context: Context<'_>, outer: TargetArgs, args: RegisterArgs) -> Outcome {
    let is_named = args.app.is_some()
        || args.remote.is_some()
        || args.addon.is_some()
        || target::is_named(&outer);
    let (word, key) = split(args.words, is_named)?;
    let inner = TargetArgs {
        target: word,
        app: args.app,
        remote: args.remote,
        addon: args.addon,
    };
    let request = v1::RegisterIntegrationRequest {
        target: Some(target::merged(outer, &inner).await?),
        name: args.name.clone(),
        ssh_public_key: key,
        access: access(args.write_access).into(),
    };
    let mut daemon = context.daemon().await?;
    let spinner = context.output.spinner(format!("registering {}", args.name));
    let answer = daemon.register_integration(request).await;
    drop(spinner);
    let credentials = answer?.credentials.unwrap_or_default();
    context.output.credentials(&args.name, &credentials)?;
    context
        .output
        .note("the password is shown this once: give it to the service now");
    Ok(0)
}

/// The target, where a word before the key is one, and the key. A key begins with its format;
/// where nothing does, the provider may say what is wrong with it.
fn split(words: Vec<String>, is_named: bool) -> Result<(Option<String>, String), Failure> {
    let is_format = |word: &String| {
        ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-"]
            .iter()
            .any(|format| word.trim_start().starts_with(format))
    };
    let before = match words.iter().position(is_format) {
        // The second of two such words is the key's format: an app may be named ssh-keys.
        Some(0) if !is_named && words.get(1).is_some_and(is_format) => 1,
        Some(before) => before,
        None => usize::from(!is_named),
    };
    if before > 1 {
        return Err(Failure::usage(format!(
            "one target goes before the SSH public key, not {}",
            words[..before].join(" ")
        ))
        .with_hint("see `borealisctl integrations register --help`"));
    }
    let mut words = words.into_iter();
    let target = words.by_ref().take(before).next();
    let key = words.collect::<Vec<_>>().join(" ");
    if key.trim().is_empty() {
        return Err(Failure::usage("the SSH public key is missing")
            .with_hint("give it behind the target, such as ssh-ed25519 AAAAC3Nza..."));
    }
    Ok((target, key.trim().to_owned()))
}

async fn remove(context: Context<'_>, target: v1::Target, args: RemoveIntegrationArgs) -> Outcome {
    let name = args.name;
    let given = args.confirm.as_ref();
    confirm::require(context, given, &name)?;
    let question = "Enter the name of the data integration to confirm its removal";
    confirm::confirm(context, given, &name, question).await?;
    let request = v1::RemoveIntegrationRequest {
        target: Some(target),
        name: name.clone(),
    };
    let mut daemon = context.daemon().await?;
    let spinner = context.output.spinner(format!("removing {name}"));
    let answer = daemon.remove_integration(request).await;
    drop(spinner);
    let done = format!("removed data integration {name} from");
    context.output.done_with(answer?.addon.as_ref(), &done)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(words: &[&str], is_named: bool) -> Option<(Option<String>, String)> {
        split(
            words.iter().map(|&word| word.to_owned()).collect(),
            is_named,
        )
        .ok()
    }

    #[test]
    fn a_target_may_stand_before_the_key() {
        let key = || "ssh-ed25519 AAAA me@x".to_owned();
        let sushi = || Some("sushi".to_owned());
        for (words, is_named, expected) in [
            (
                &["sushi", "ssh-ed25519", "AAAA", "me@x"] as &[_],
                false,
                (sushi(), key()),
            ),
            (
                &["sushi", "ssh-ed25519 AAAA me@x\n"],
                false,
                (sushi(), key()),
            ),
            (&["ssh-ed25519", "AAAA", "me@x"], true, (None, key())),
            (&["ssh-ed25519", "AAAA", "me@x"], false, (None, key())),
            (&["sushi", "ssh-ed25519 AAAA me@x"], true, (sushi(), key())),
            (
                &["ssh-keys", "ssh-rsa", "AAAA"],
                false,
                (Some("ssh-keys".into()), "ssh-rsa AAAA".into()),
            ),
            (&["sushi", "no", "key"], false, (sushi(), "no key".into())),
            (&["no", "key"], true, (None, "no key".into())),
        ] {
            assert_eq!(parts(words, is_named), Some(expected), "{words:?}");
        }
        assert_eq!(parts(&["a", "b", "ssh-rsa", "AAAA"], false), None);
        assert_eq!(parts(&["sushi"], false), None);
        assert_eq!(parts(&["sushi", " "], false), None);
    }
}
