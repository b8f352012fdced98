use clap::CommandFactory;

use super::*;

/// All commands, those that are wired by their rooms among them.
fn commands() -> Vec<clap::Command> {
    fn of<A: Args>(name: &'static str) -> clap::Command {
        A::augment_args(clap::Command::new(name))
    }
    vec![
        Cli::command(),
        of::<serve::ServeArgs>("serve"),
        of::<demo::DemoArgs>("demo"),
        of::<normalize::NormalizeArgs>("normalize"),
        of::<connector::ConnectorArgs>("connector"),
        of::<policy::PolicyArgs>("policy"),
        of::<quarantine::QuarantineArgs>("quarantine"),
        of::<deadletter::DeadletterArgs>("deadletter"),
        of::<helpdesk::HelpdeskArgs>("helpdesk"),
        of::<token::TokenArgs>("token"),
    ]
}

fn each(command: &clap::Command, path: &str, see: &mut impl FnMut(&clap::Command, &str)) {
    let path = format!("{path} {}", command.get_name());
    see(command, &path);
    command.get_subcommands().for_each(|sub| each(sub, &path, see));
}

#[test]
fn every_definition_is_sound_and_every_help_has_an_example() {
    let mut seen = 0;
    for command in commands() {
        command.clone().debug_assert();
        each(&command, "", &mut |command, path| {
            seen += 1;
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.get_name() == "segue" || help.contains("Example"), "{path} has no example");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {} has no help", argument.get_id());
            }
        });
    }
    assert!(seen >= 29, "only {seen} commands were seen");
}

/// The first word of every example after `segue` is a command, and it parses.
#[test]
fn the_examples_parse() {
    let all = commands();
    let root =
        all.iter().skip(1).fold(Cli::command(), |root, command| match root.find_subcommand(command.get_name()) {
            Some(_) => root,
            None => root.subcommand(command.clone()),
        });
    let mut tried = 0;
    for command in &all {
        each(command, "", &mut |command, path| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().filter_map(|line| line.trim().strip_prefix("segue "));
            for line in lines.flat_map(|line| line.split(" && ")).filter_map(|line| line.split(" | ").next()) {
                let words = line
                    .split_whitespace()
                    .take_while(|word| *word != "<")
                    .map(|word| word.trim_start_matches("segue"));
                if line.starts_with("cd ") {
                    continue;
                }
                let words = std::iter::once("segue").chain(words.filter(|word| !word.is_empty()));
                let parsed = root.clone().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{path}: {line}: {}", parsed.unwrap_err());
                tried += 1;
            }
        });
    }
    assert!(tried > 30, "only {tried} examples were found");
}

#[test]
fn schemas_are_valid_json_schemas() {
    for format in schema::FORMATS {
        let schema: serde_json::Value = serde_json::from_str(&format.text().unwrap()).unwrap();
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{}: {error}", format.name));
        assert!(jsonschema::validator_for(&schema).is_ok(), "{}", format.name);
    }
}

#[test]
fn the_quickstart_loads_without_a_warning() {
    let config = config::load(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart").as_ref()).unwrap();
    assert_eq!(config.warnings, []);
    let connectors: Vec<&str> = config.channels.iter().map(|channel| channel.connector.as_str()).collect();
    assert_eq!(connectors, ["meta-page", "slack", "telegram", "twilio-sms", "twilio-voice", "whatsapp"]);
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let code = |path: PathBuf| {
        let global = Global { config: path, log: None, log_format: log::Format::Text };
        global.load().map_or_else(|error| Exit::from(&error), |_| Exit::Ok)
    };
    assert_eq!(code(folder.path().join("segue.toml")), Exit::NoInput);
    assert_eq!(code(folder.path().to_owned()), Exit::NoInput);
    std::fs::write(folder.path().join("segue.toml"), "lgo = \"info\"").unwrap();
    assert_eq!(code(folder.path().to_owned()), Exit::Config);
    std::fs::write(folder.path().join("segue.toml"), "log = \"info\"").unwrap();
    assert_eq!(code(folder.path().to_owned()), Exit::Ok);
}
