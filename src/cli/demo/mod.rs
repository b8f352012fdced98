//! `segue demo`: the whole way of an interaction on one screen, with nothing but the binary.
//!
//! A temporary project, the gateway itself, a sample help desk, a mail server and a stand-in for the providers run in this
//! process and speak HTTP, IMAP and SMTP with each other over loopback. A story of signed provider requests and of mails is
//! played ([`scene`]); what is shown is what the help desk received and verified, and what the mail server was handed, not
//! what the gateway says of itself. Every step is held to what was expected.

mod helpdesk;
mod postbox;
mod project;
mod provider;
mod scene;
mod screen;
mod story;
mod stub;
mod tell;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use super::exit::{Exit, Outcome};
use super::{Global, log, report, serve};
use crate::api::token::{Scope, mint};
use crate::app::{App, Start, setup};
use crate::base::{Clock, Error, Result};
use crate::config::{self, Problem};
use crate::net::server::Server;
use crate::net::{Client, client};
use helpdesk::HelpDesk;
use postbox::Postbox;
use project::Project;
use scene::{Player, Scene};
use screen::Screen;
use story::Story;
use stub::Stub;

const COMMANDS: &str = include_str!("data/commands.txt");

/// How long a reader has for a step before the next one.
const PACE: Duration = Duration::from_millis(500);
/// How long the demo's own servers have to finish.
const PATIENCE: Duration = Duration::from_secs(1);

/// Arguments of `segue demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  segue demo\n  segue demo --exit\n  segue demo --listen 127.0.0.1:8080")]
pub struct DemoArgs {
    /// End with a summary instead of staying up; the exit code is 0 only if everything held
    #[arg(long)]
    pub exit: bool,
    /// Where the demo's gateway listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Print one JSON object a step
    #[arg(long)]
    pub json: bool,
}

/// The demo's own servers: those that are asked what came to them, and where they all are.
struct Props {
    desk: Arc<HelpDesk>,
    stub: Arc<Stub>,
    postbox: Postbox,
    places: [(&'static str, String); 3],
}

/// Plays the demo.
///
/// # Errors
///
/// If the project cannot be written or a port cannot be had. What did not hold is no error here but [`Exit::Software`].
pub fn run(global: &Global, args: &DemoArgs) -> Outcome {
    log::start(global.log.as_deref().unwrap_or("warn,segue::reload=info"), global.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::io("failed to start the runtime", e))?;
    let outcome = runtime.block_on(demo(args));
    runtime.shutdown_timeout(PATIENCE);
    outcome
}

async fn demo(args: &DemoArgs) -> Outcome {
    let story = story::read()?;
    let mut project = Project::new(&story.secrets)?;
    let (desk_server, desk) = HelpDesk::open(project.secret("helpdesk")).await?;
    let (stub_server, stub) = Stub::open().await?;
    let postbox = Postbox::open().await?;
    let (desk_at, stub_at) = (address(&desk_server), address(&stub_server));
    project.write(args.listen, &desk_at, &stub_at, &postbox)?;
    let app = start(&project).await?;
    let mail_at = format!("imaps://{} and smtps://{}", postbox.imap(), postbox.smtp());
    let places = [("help desk", desk_at), ("providers", stub_at), ("mail server", mail_at)];
    let props = Props { desk, stub, postbox, places };
    let outcome = tokio::select! {
        outcome = play(args, &story, &mut project, &app, &props) => outcome,
        // What was not played to its end has not held.
        stopped = serve::told_to_stop() => stopped.map(|()| if args.exit { Exit::Software } else { Exit::Ok }),
    };
    app.stop().await;
    props.postbox.close().await;
    for server in [desk_server, stub_server] {
        server.drain(PATIENCE).await;
    }
    match outcome {
        Ok(Exit::Ok) => {}
        _ => report::note(&format!("the project is left at {}", project.leave().display())),
    }
    outcome
}

async fn play(args: &DemoArgs, story: &Story, project: &mut Project, app: &App, props: &Props) -> Outcome {
    let screen = Screen::new(args.json);
    let gateway = reachable(app)?;
    token(project, app).await?;
    let (client, gateway) = (client_to(gateway)?, format!("http://{gateway}"));
    let (desk, stub, postbox) = (props.desk.clone(), props.stub.clone(), &props.postbox);
    let scene = Scene { client, gateway, project, desk, stub, postbox, app };
    let mut places = vec![("gateway", scene.gateway.clone())];
    places.extend(props.places.clone());
    places.push(("project", scene.project.path().display().to_string()));
    screen.opening(&places)?;
    let mut player = Player::new(&scene, story);
    let mut checks = Vec::new();
    for (number, step) in (1..).zip(&story.steps) {
        let shown = player.play(step).await?;
        screen.step(number, &shown)?;
        checks.push(shown.check);
        if !args.exit && !args.json {
            tokio::time::sleep(PACE).await;
        }
    }
    checks.extend(player.at_the_end().await?);
    let held = screen.table(&checks)?;
    if args.exit {
        return Ok(if held { Exit::Ok } else { Exit::Software });
    }
    let commands = player.commands(COMMANDS)?;
    screen.commands(&commands)?;
    tokio::select! {
        () = app.broken() => Ok(Exit::Io),
        shown = watch(screen, &scene) => shown.map(|()| Exit::Ok),
    }
}

/// Shows what the help desk receives, for as long as the demo stays up.
async fn watch(screen: Screen, scene: &Scene<'_>) -> Result<()> {
    let mut mark = scene.desk.mark();
    loop {
        scene.desk.more(mark).await;
        let events = scene.desk.after(mark);
        mark = scene.desk.mark();
        for received in events {
            let brief = tell::brief(&received);
            let [time, kind, channel, text] = &brief;
            screen.event(&received.event, &[time, kind, channel, text])?;
        }
    }
}

/// Starts the gateway on the project, as `segue serve` does.
async fn start(project: &Project) -> Result<App> {
    let config = config::load(project.path()).map_err(|problems| broken(&problems))?;
    let loaded = setup::load(&config).map_err(|problems| broken(&problems))?;
    report::problems(&loaded.warnings);
    let start = Start { clock: Clock::system(), ..Start::default() };
    App::start(config, loaded, start).await
}

fn broken(problems: &[Problem]) -> Error {
    report::problems(problems);
    Error::internal("the demo's own project cannot be loaded")
}

/// Makes the API token of the help desk's agent.
async fn token(project: &mut Project, app: &App) -> Result<()> {
    let (text, row) = mint("demo", &[Scope::Read, Scope::Write, Scope::Feed], app.context.clock.now())?;
    app.context.store.catalog.add_token(row).await?;
    project.keep("api-token", text.expose().to_owned())
}

/// Where the gateway can be reached from this machine.
fn reachable(app: &App) -> Result<SocketAddr> {
    let listens = app.addresses();
    let address = listens.first().and_then(|url| url.strip_prefix("http://")).and_then(|text| text.parse().ok());
    let mut address: SocketAddr = address.ok_or_else(|| Error::internal("the gateway listens nowhere"))?;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Ok(address)
}

/// A client that may go to the gateway and nowhere else on this network.
fn client_to(gateway: SocketAddr) -> Result<Client> {
    Client::new(client::Settings { allow: vec![IpNet::from(gateway.ip())], ..client::Settings::default() })
}

fn address(server: &Server) -> String {
    format!("http://{}", server.address())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_story_holds_from_end_to_end() {
        let args = DemoArgs { exit: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), json: true };
        assert_eq!(demo(&args).await.unwrap(), Exit::Ok);
    }
}
