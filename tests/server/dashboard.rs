//! The page for operators in a real browser: it shows a player, and what an operator does counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and says where"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::base::Base;
use crate::support::browser::Browser;
use crate::support::hls::ask;
use crate::support::http::{get, get_json, get_with, metric, sessions};
use crate::support::media::title;
use crate::support::process::{Kept, run_any, wait_for};
use crate::support::publish::{PICTURES_AND_SOUND, Publisher};
use crate::support::server::{Options, Server, binary, loadgen};
use crate::support::session::{Lower, Session};
use crate::support::wait::{Deadline, PATIENCE, until};
use crate::support::whep::{OFFER, post};
use crate::support::{demo_clip, scratch};

const DESKTOP: (u32, u32) = (1_360, 860);
const PHONE: (u32, u32) = (390, 844);

/// Views of a server's page.
const VIEWS: [&str; 6] = ["overview", "sessions", "paths", "titles", "health", "connect"];

fn page_of(server: &Server, (width, height): (u32, u32)) -> Browser {
    let mut browser = Browser::start(width, height);
    browser.open(&origin(server));
    browser.until("document.querySelectorAll('#tabs a').length > 1");
    browser
}

fn origin(server: &Server) -> String {
    format!("http://{}/", server.admin)
}

fn show(browser: &mut Browser, view: &str) {
    browser.click(&format!("document.querySelector('#tabs a[href=\"#{view}\"]')"));
    browser.until(&format!("document.querySelector('#tabs a[aria-current]')?.hash === '#{view}'"));
}

/// A player that plays, and its session.
fn player(server: &Server) -> (Session, String) {
    let mut session = Session::open(server.rtsp, &server.demo_url(), Lower::Udp);
    session.play(&[]);
    session.receive_packets(5, PATIENCE);
    let id = sessions(server.admin).last().unwrap()["id"].as_str().unwrap().to_owned();
    (session, id)
}

/// A button of the row of a session or path.
fn button(row: &str, label: &str) -> String {
    format!(
        "[...document.querySelectorAll('tbody tr')].find((row) => row.innerText.includes('{row}'))\
         ?.querySelector('button[aria-label^=\"{label}\"]')"
    )
}

fn in_dialog(label: &str) -> String {
    format!(
        "[...document.querySelectorAll('dialog button')].find((it) => it.innerText === '{label}')"
    )
}

#[test]
fn session_is_shown_and_ended_when_the_operator_confirms_it() {
    let server = Server::with_demo();
    let (mut session, id) = player(&server);
    let mut browser = page_of(&server, DESKTOP);
    browser.until("document.getElementById('state').innerText === 'live'");
    browser.until("document.querySelector('.tile b').innerText === '1'");
    show(&mut browser, "sessions");
    browser.until(&format!("document.querySelector('table').innerText.includes('{id}')"));
    let row = browser.eval("document.querySelector('tbody tr').innerText");
    for part in ["playing", "demo", "udp", "127.0.0.1:"] {
        assert!(row.as_str().unwrap().contains(part), "{row}");
    }
    browser.click(&button(&id, "Kick"));
    browser.until("document.querySelector('dialog[open]')");
    let asked = browser.eval("document.querySelector('dialog').innerText");
    assert!(asked.as_str().unwrap().contains("demo"), "{asked}");
    browser.press("Escape");
    browser.until("!document.querySelector('dialog')");
    assert_eq!(sessions(server.admin).len(), 1, "Escape ends nothing");
    browser.click(&button(&id, "Kick"));
    browser.click(&in_dialog("Cancel"));
    browser.until("!document.querySelector('dialog')");
    assert_eq!(sessions(server.admin).len(), 1, "Cancel ends nothing");
    browser.click(&button(&id, "Kick"));
    browser.click(&in_dialog("Kick"));
    session.receive_until_bye(PATIENCE);
    browser.until("document.getElementById('notices').innerText.includes('is ended')");
    browser.until("!document.querySelector('tbody tr')");
    assert!(sessions(server.admin).is_empty());
    browser.assert_content(&origin(&server));
}

#[test]
fn viewer_by_webrtc_is_shown_and_ended_by_the_operator() {
    let server = Server::start(&Options { hls: "127.0.0.1:0", ..Options::default() });
    let _publisher = Publisher::start(&server, "live/a", PICTURES_AND_SOUND, Lower::Tcp);
    let mut browser = page_of(&server, DESKTOP);
    show(&mut browser, "paths");
    // The page is there first: a viewer who does not connect is ended after a while.
    let opened = post(server.hls(), "live/a", "", OFFER);
    assert_eq!(opened.status, 201, "{}", opened.text());
    browser.until("document.querySelector('td[data-label=Readers]')?.innerText === '1'");
    show(&mut browser, "sessions");
    assert_eq!(ask(server.hls(), "DELETE", opened.header("location"), "").status, 200);
    assert_eq!(post(server.hls(), "live/a", "", OFFER).status, 201);
    // The table may still have the first viewer.
    let listed = sessions(server.admin);
    let viewer = listed.iter().find(|session| session["transport"] == "webrtc");
    let id = viewer.expect("the second viewer")["id"].as_str().unwrap();
    browser.until(&format!("document.querySelector('table').innerText.includes('{id}')"));
    browser.click(&button(id, "Kick"));
    let asked = browser.eval("document.querySelector('dialog').innerText");
    assert!(asked.as_str().unwrap().contains("The browser of live/a"), "{asked}");
    browser.click(&in_dialog("Kick"));
    browser.until("document.getElementById('notices').innerText.includes('is ended')");
    until("the viewer is gone", || {
        sessions(server.admin).iter().all(|session| session["transport"] != "webrtc")
    });
    let (_, text) = get(server.admin, "/metrics");
    assert!(text.contains("headend_whep_not_connected_total 0\n"), "it gave up: {text}");
    browser.assert_content(&origin(&server));
}

/// A folder may be large: nobody who does not see the list asks for it.
#[test]
fn list_of_titles_is_not_asked_for_while_the_tab_is_hidden() {
    let server = Server::with_demo();
    let mut browser = page_of(&server, DESKTOP);
    let asked = |browser: &mut Browser| {
        browser.eval("0");
        browser.requests.iter().filter(|url| url.contains("/v1/vod")).count()
    };
    let hide = |browser: &mut Browser, is_hidden: bool| {
        browser.eval(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    };
    hide(&mut browser, true);
    browser.eval("location.hash = '#titles'");
    browser.until("document.querySelector('input[type=search]').placeholder.includes('titles')");
    browser.eval(
        "(() => { const search = document.querySelector('input[type=search]'); \
         search.value = 'x'; search.dispatchEvent(new Event('input')); })()",
    );
    browser.eval("new Promise((done) => setTimeout(done, 800))");
    assert_eq!(asked(&mut browser), 0);
    hide(&mut browser, false);
    until("the list is asked for when it is seen", || asked(&mut browser) == 1);
}

#[test]
fn plots_show_what_shards_count_and_begin_with_the_minutes_before() {
    let server = Server::with_demo();
    let (_session, _) = player(&server);
    until("packets were counted", || {
        metric(server.admin, "headend_rtp_packets_sent_total").is_some_and(|packets| packets > 50.0)
    });
    let mut browser = page_of(&server, DESKTOP);
    browser.until("document.querySelectorAll('.plot svg:not([hidden]) path.line').length >= 10");
    // Out over UDP: the newest value of the legend, and a line that is not flat.
    browser.until(
        "parseFloat([...document.querySelectorAll('.plot')].find((it) => \
         it.innerText.includes('Packets')).querySelector('.legend b').innerText) > 0",
    );
    let label = browser.eval("document.querySelector('.plot svg').getAttribute('aria-label')");
    assert!(
        label
            .as_str()
            .unwrap()
            .starts_with("Players, publishers and browsers in sessions and viewers: all 1"),
        "{label}"
    );
    browser.assert_content(&origin(&server));
}

#[test]
fn every_view_fits_a_phone_and_a_desktop_in_light_and_dark_and_names_its_controls() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let name = "a film with a rather long name that does not end before the edge of a phone.mp4";
    std::fs::copy(title("aac_m4a").file(), folder.path().join(name)).unwrap();
    let config = "[path.\"live/cam1\"]\nsource = \"vod/x.mp4\"\n[path.\"tv\"]\n\
                  lineup = { 1 = \"vod/x.mp4\" }\n";
    let server = Server::start(&Options {
        folder: Some(folder.path()),
        config: Some(config),
        ..Options::default()
    });
    let (_session, _) = player(&server);
    let mut browser = page_of(&server, DESKTOP);
    for (size, scheme) in [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
    {
        browser.resize(size.0, size.1);
        browser.prefer(scheme);
        for view in VIEWS {
            show(&mut browser, view);
            browser.until("!document.getElementById('main').innerText.includes('loading')");
            let wide = browser.eval(
                "[...document.querySelectorAll('body *')].filter((it) => it.checkVisibility() && \
                 !it.closest('nav, pre, .hidden') && it.getBoundingClientRect().right > \
                 innerWidth + 1).map((it) => it.outerHTML.slice(0, 120))",
            );
            let fits =
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
            let fits = browser.eval(fits);
            assert_eq!((&wide, fits), (&serde_json::json!([]), true.into()), "{view} {size:?}");
            let controls = ["button", "link", "searchbox", "textbox", "combobox", "img", "image"];
            let nameless: Vec<_> = browser
                .accessible()
                .into_iter()
                .filter(|(role, name)| controls.contains(&role.as_str()) && name.is_empty())
                .collect();
            assert!(nameless.is_empty(), "{view}: {nameless:?}");
            if let Some(folder) = std::env::var_os("HEADEND_VIEWS").map(PathBuf::from) {
                let file = format!("{view}-{}-{scheme}.png", size.0);
                browser.screenshot(&folder.join(file));
            }
        }
    }
    browser.assert_content(&origin(&server));
}

#[test]
fn page_is_used_by_keyboard_alone() {
    let server = Server::with_demo();
    let (mut session, id) = player(&server);
    let mut browser = page_of(&server, DESKTOP);
    let focus = |browser: &mut Browser, wanted: &str| {
        // Bounded: there are fewer controls.
        for _ in 0..60 {
            browser.press("Tab");
            let found = browser.eval(
                "document.activeElement.getAttribute('aria-label') ?? \
                 document.activeElement.innerText",
            );
            if found.as_str().is_some_and(|name| name.starts_with(wanted)) {
                return;
            }
        }
        panic!("Tab never leads to {wanted}");
    };
    focus(&mut browser, "Sessions");
    browser.press("Enter");
    browser.until(&format!("document.querySelector('table').innerText.includes('{id}')"));
    focus(&mut browser, &format!("Kick {id}"));
    browser.press("Enter");
    browser.until("document.activeElement.innerText === 'Cancel'");
    focus(&mut browser, "Kick");
    browser.press("Enter");
    session.receive_until_bye(PATIENCE);
}

#[test]
fn titles_are_searched_and_leafed_by_the_server() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    for number in 0..120 {
        std::fs::write(folder.path().join(format!("film{number:03}.mp4")), b"x").unwrap();
    }
    let server = Server::with_folder(folder.path());
    let mut browser = page_of(&server, DESKTOP);
    show(&mut browser, "titles");
    let rows = "document.querySelectorAll('tbody tr:not(.details)').length";
    let has = |name: &str| format!("document.querySelector('tbody')?.innerText.includes('{name}')");
    browser.until(&has("film000.mp4"));
    assert_eq!(browser.eval(rows), 50);
    let next = "[...document.querySelectorAll('.tools button')].find((it) => \
                it.innerText === 'Next page' && !it.disabled)";
    browser.click(next);
    browser.until(&has("film050.mp4"));
    browser.click(next);
    browser.until(&has("film119.mp4"));
    assert_eq!(browser.eval(rows), 20);
    browser.click("document.querySelector('input[type=search]')");
    browser.type_text("FILM07");
    browser.until(&format!("{rows} === 10"));
    assert_eq!(browser.eval(&has("film079.mp4")), true);
    browser.click("document.querySelector('tbody button.link')");
    browser.until(&has(&format!("ffplay {}", server.vod_url("film070.mp4"))));
    browser.assert_content(&origin(&server));
}

#[test]
fn warnings_of_the_log_and_lines_to_copy_are_shown() {
    let config = "[path.\"live/loop\"]\nsource = \"vod/none.mp4\"\n";
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let server = Server::start(&Options {
        folder: Some(folder.path()),
        config: Some(config),
        ..Options::default()
    });
    server.assert_logs("HE-W308");
    let mut browser = page_of(&server, DESKTOP);
    browser.until("document.querySelector('.alerts').innerText.includes('warnings in the log')");
    show(&mut browser, "health");
    browser.until(
        "[...document.querySelectorAll('.logline')].some((it) => it.innerText.includes('HE-W308'))",
    );
    browser.until("document.querySelectorAll('.limit').length === 8");
    browser.until("document.querySelector('main').innerText.includes('checks are as they should')");
    show(&mut browser, "connect");
    let lines = browser.eval("[...document.querySelectorAll('code')].map((it) => it.innerText)");
    let shown = lines.to_string();
    for line in server.banner.lines().filter_map(|line| line.strip_prefix("publish ")) {
        assert!(shown.contains(line), "{shown} lacks {line}");
    }
    assert!(shown.contains(&server.url("")), "{shown}");
    browser.assert_content(&origin(&server));
}

#[test]
fn reload_is_asked_for_and_its_errors_are_shown() {
    let config = "[path.\"live/a\"]\nsource = \"publish\"\n";
    let server = Server::start(&Options { config: Some(config), ..Options::default() });
    let mut browser = page_of(&server, DESKTOP);
    show(&mut browser, "paths");
    let reload = "[...document.querySelectorAll('.tools button')].find((it) => \
                  it.innerText.startsWith('Reload') && !it.disabled)";
    server.write_config("[path.\"live/b\"]\nsource = \"publish\"\n");
    browser.click(reload);
    browser.click(&in_dialog("Reload"));
    browser.until("document.querySelector('.notice')?.innerText.includes('counts')");
    browser.until("document.querySelector('tbody')?.innerText.includes('live/b')");
    server.write_config("[path\n");
    browser.click(reload);
    browser.click(&in_dialog("Reload"));
    browser.until("document.querySelector('.notice.bad')?.innerText.includes('stays')");
    // The browser itself notes the refusal, and nothing else.
    assert!(browser.complaints.iter().all(|text| text.contains("422")), "{:?}", browser.complaints);
}

#[test]
fn token_that_may_only_read_has_no_actions() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "grafana read hda_readreadreadread\n").unwrap();
    let config = format!("[admin]\ntokens = \"{}\"\n", tokens.display());
    let server = Server::start(&Options { config: Some(&config), ..Options::default() });
    let (_session, id) = player(&server);
    let mut browser = Browser::start(DESKTOP.0, DESKTOP.1);
    browser.send_header("Authorization", "Bearer hda_readreadreadread");
    browser.open(&origin(&server));
    browser.until("document.getElementById('host').innerText.includes('read only')");
    show(&mut browser, "sessions");
    browser.until(&format!("({})?.disabled", button(&id, "Kick")));
    browser.assert_content(&origin(&server));
}

#[test]
fn page_that_is_told_to_load_from_elsewhere_refuses() {
    let server = Server::with_demo();
    let mut browser = page_of(&server, DESKTOP);
    let refused =
        browser.eval("fetch('http://127.0.0.2:9/').then(() => 'loaded', (error) => String(error))");
    assert!(refused.as_str().unwrap().contains("TypeError"), "{refused}");
    let inline = browser.eval(
        "(() => { try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); return 'set'; } \
         catch (error) { return String(error); } })()",
    );
    assert!(inline.as_str().unwrap().contains("TrustedHTML"), "{inline}");
    let complaints = browser.complaints.join("\n");
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
}

#[test]
fn plots_keep_any_values_within_the_drawing() {
    let server = Server::with_demo();
    let mut browser = page_of(&server, DESKTOP);
    let outcome = browser.eval(
        r"(async () => {
            const { roundTicks, scales, short, createFigure } = await import('/dashboard/plots.js');
            const labels = (high) => roundTicks(high, 5).map(short).join(' ');
            const told = [labels(10), labels(0.7), roundTicks(0, 5)[0], short(12500), short(0.25)];
            const axes = [{ kind: 'time', window: [1, 2] }, { kind: 'ago', span: 300 },
                { kind: 'percentile' }, { kind: 'classes', names: ['a', 'b'] }];
            const odd = [NaN, Infinity, -Infinity, 0, -0, 1e308, -1e308, 5e-324, null];
            let seed = 7;
            const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
            const any = () => random() < 0.3 ? odd[Math.floor(random() * odd.length)]
                : (random() - 0.5) * 10 ** (random() * 40 - 20);
            let places = 0;
            for (let round = 0; round < 2000; round += 1) {
                const points = Array.from({ length: 12 }, () => [any() ?? 0, any()]);
                const plot = { axis: axes[round % 4], title: 't', unit: 'u', series: [{ name: 's', points }] };
                const { x, y } = scales(plot, 640, 240);
                for (const [at, value] of points) {
                    places += 1;
                    if (!(x.place(at) >= 46 && x.place(at) <= 628)) return `x ${at}`;
                    if (value !== null && !(y.place(value) >= 10 && y.place(value) <= 216)) return `y ${value}`;
                }
                if (round % 50 === 0) {
                    const { element, set } = createFigure(plot, 240);
                    document.body.append(element);
                    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                    set(plot.series);
                    if (/NaN|Infinity/.test(element.querySelector('svg').outerHTML)) return element.outerHTML;
                    element.remove();
                }
            }
            const values = (list) => ({ axis: axes[2], series: [{ points: list.map((v, i) => [i / 4, v]) }] });
            told.push(scales(values([1, 2, 3]), 640, 240).y.isLog, scales(values([0.1, 1, 2000]), 640, 240).y.isLog);
            return [...told, places];
        })()",
    );
    let wanted = serde_json::json!([
        "0 2 4 6 8 10",
        "0 0.2 0.4 0.6 0.8",
        0,
        "12.5k",
        "0.25",
        false,
        true,
        24_000
    ]);
    assert_eq!(outcome, wanted);
}

#[test]
fn report_of_the_load_generator_draws_its_plots_and_loads_nothing() {
    let server = Server::with_demo();
    let page = scratch().join(format!("report-{}.html", std::process::id()));
    let url = server.demo_url();
    let path = page.to_str().unwrap();
    let args = ["--sessions", "2", "--duration", "3s", "--html", path, url.as_str()];
    run_any(loadgen().to_str().unwrap(), &args, PATIENCE);
    let mut browser = Browser::start(DESKTOP.0, DESKTOP.1);
    let origin = format!("file://{path}");
    browser.open(&origin);
    browser.until("document.querySelectorAll('.plot svg path, .plot svg .bar').length > 4");
    for (width, height) in [DESKTOP, PHONE] {
        browser.resize(width, height);
        browser
            .until("document.documentElement.scrollWidth <= document.documentElement.clientWidth");
    }
    assert!(browser.eval("document.querySelectorAll('figure.plot').length").as_u64() >= Some(7));
    browser.assert_content(&origin);
    std::fs::remove_file(page).unwrap();
}

/// A feed that is opened and not read.
fn unread_feed(admin: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(admin).unwrap();
    write!(stream, "GET /v1/feed HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    stream
}

fn status_of(stream: &mut TcpStream) -> u16 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    std::str::from_utf8(&head[9..]).unwrap().parse().unwrap()
}

#[test]
fn pages_too_many_and_pages_that_never_read_keep_nobody_else_out() {
    let mut server = Server::with_demo();
    let (mut session, _) = player(&server);
    let mut feeds: Vec<_> = (0..32).map(|_| unread_feed(server.admin)).collect();
    for feed in &mut feeds {
        assert_eq!(status_of(feed), 200);
    }
    let (status, body) = get(server.admin, "/v1/feed");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("32 pages are open already"), "{body}");
    assert_eq!(metric(server.admin, "headend_admin_feeds_refused_total"), Some(1.0));
    // A page that is one too many shows everything but the live numbers, and says so.
    let mut browser = page_of(&server, DESKTOP);
    browser.until("document.getElementById('state').innerText === 'no connection'");
    feeds.pop();
    browser.until("document.getElementById('state').innerText === 'live'");
    session.receive_packets(5, PATIENCE);
    // Feeds do not hold up the end.
    server.signal_term();
    let status = server.wait(Duration::from_secs(10));
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

#[test]
fn pages_of_others_get_neither_the_page_nor_its_numbers() {
    let server = Server::with_demo();
    let admin = server.admin;
    for path in ["/", "/dashboard/app.js", "/v1/feed", "/v1/doctor", "/v1/log"] {
        for headers in [
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\n",
        ] {
            let headers = format!("Accept: text/html\r\n{headers}");
            assert_eq!(get_with(admin, path, &headers).0, 403, "{path} {headers}");
        }
        // A name of a stranger that leads here.
        let mut stream = TcpStream::connect(admin).unwrap();
        let port = admin.port();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: evil.example:{port}\r\nAccept: text/html\r\n\r\n"
        )
        .unwrap();
        assert_eq!(status_of(&mut stream), 403, "{path}");
        // Another machine, by a proxy of this one.
        assert_eq!(get_with(admin, path, "X-Forwarded-For: 192.0.2.1\r\n").0, 401, "{path}");
    }
    for path in ["/dashboard/", "/dashboard/none.js", "/dashboard/..%2fCargo.toml", "/dashboard"] {
        assert_eq!(get(admin, path).0, 404, "{path}");
    }
    assert_eq!(get_json(admin, "/")["name"], "headend", "programs get what they always got");
}

/// A node of a base, both without TLS.
fn node_of(base: &Base, media: &Path) -> Server {
    let mut command = Command::new(binary());
    command.args(["node", "--insecure", "--base", &base.url(), "--join", &base.join_token()]);
    command.args(["--name", "edge-1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--shards", "1", "--workers", "1"]).arg("--media").arg(media);
    Server::run(command, tempfile::tempdir_in(scratch()).unwrap())
}

#[test]
fn base_shows_its_jobs_and_who_feeds_whom_and_a_node_leads_to_its_base() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let base = Base::start(&folder.path().join("data"));
    let media = folder.path().join("media");
    std::fs::create_dir(&media).unwrap();
    let node = node_of(&base, &media);
    let token = base.token("provider.token");
    let film = demo_clip();
    let push = ["job", "push", film.to_str().unwrap(), "--base", &base.url(), "--token", &token];
    let pushed = run_any(binary().to_str().unwrap(), &push, PATIENCE);
    assert!(pushed.status.success(), "{}", pushed.stderr);
    let mut browser = Browser::start(DESKTOP.0, DESKTOP.1);
    browser.send_header("Authorization", &format!("Bearer {token}"));
    browser.open(&format!("{}/", base.url()));
    browser.until("document.querySelector('tbody')?.innerText.includes('completed')");
    browser.click("document.querySelector('tbody button.link')");
    browser.until("document.querySelector('.tree')?.innerText.includes('edge-1  100 %')");
    let tree = browser.eval("document.querySelector('.tree').innerText");
    assert!(tree.as_str().unwrap().starts_with("base\n'- edge-1"), "{tree}");
    show(&mut browser, "nodes");
    browser.until("document.querySelector('tbody')?.innerText.includes('edge-1')");
    browser.assert_content(&base.url());
    let mut browser = page_of(&node, DESKTOP);
    show(&mut browser, "jobs");
    let link = browser.eval("document.querySelector('main a').href");
    assert_eq!(link, format!("{}/", base.url()));
    browser.assert_content(&origin(&node));
}

/// The pictures of README, which `scripts/pictures.sh` takes of some minutes: here of seconds.
#[test]
fn pictures_of_the_page_and_of_a_report_are_small_enough_to_be_kept() {
    let seconds = std::env::var("HEADEND_PICTURE_SECONDS").unwrap_or_else(|_| "4".to_owned());
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let pictures = std::env::var_os("HEADEND_PICTURES").map(PathBuf::from);
    let pictures = pictures.unwrap_or_else(|| folder.path().to_owned());
    let media = folder.path().join("media");
    std::fs::create_dir(&media).unwrap();
    std::fs::copy(demo_clip(), media.join("clock.mp4")).unwrap();
    let config = "[path.\"live/clock\"]\nsource = \"vod/clock.mp4\"\n\
                  [path.\"live/demo\"]\nsource = \"demo\"\n";
    let server = Server::start(&Options {
        folder: Some(&media),
        config: Some(config),
        ..Options::default()
    });
    let report = folder.path().join("report.html");
    let mut command = Command::new(loadgen());
    // What was called is in the picture.
    command.arg0("headend-loadgen").current_dir(folder.path());
    let seconds: u32 = seconds.parse().unwrap();
    let (ramp, duration) = ((480 / seconds).max(1).to_string(), format!("{seconds}s"));
    command.args(["-n", "120", "--ramp", &ramp, "--duration", &duration]);
    command.args(["--transport", "udp=3,tcp=1", "--html", "report.html"]);
    command.args([server.url("live/clock"), server.url("live/demo")]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut load = Kept::start(&mut command);
    let mut browser = page_of(&server, DESKTOP);
    browser.prefer("dark");
    // Just before the load ends.
    let deadline = Deadline::after(Duration::from_secs(u64::from(seconds.saturating_sub(2))));
    while !deadline.has_passed() && load.0.try_wait().unwrap().is_none() {
        browser.until("document.getElementById('state').innerText === 'live'");
        std::thread::park_timeout(Duration::from_millis(500));
    }
    browser.until("Number(document.querySelector('.tile b').innerText) > 0");
    browser.screenshot(&pictures.join("dashboard.png"));
    drop(browser);
    wait_for(&mut load.0, PATIENCE * 4).expect("the load ends");
    let mut browser = Browser::start(DESKTOP.0, DESKTOP.1);
    browser.open(&format!("file://{}", report.display()));
    browser.until("document.querySelectorAll('.plot svg path').length > 4");
    browser.screenshot(&pictures.join("report.png"));
    for name in ["dashboard.png", "report.png"] {
        let picture = std::fs::read(pictures.join(name)).unwrap();
        assert!(picture.starts_with(b"\x89PNG"), "{name}");
        assert!((10_000..200_000).contains(&picture.len()), "{name}: {} bytes", picture.len());
    }
}
