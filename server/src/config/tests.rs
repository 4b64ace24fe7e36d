use super::*;

fn flags(line: &str) -> Flags {
    try_flags(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn try_flags(line: &str) -> Result<Flags, clap::Error> {
    let words = std::iter::once("server").chain(line.split_whitespace());
    parse(words.map(Into::into))
}

fn config(line: &str) -> Result<Config, ConfigError> {
    Config::from_flags(&flags(line))
}

fn peers(config: &Config) -> Vec<String> {
    let show = |(name, address): &(NodeName, Address)| format!("{name}={address}");
    config.peers.iter().map(show).collect()
}

#[test]
fn one_dash_or_two_mean_the_same() {
    let one = flags("-id node1 -http :8080 -peers node2,node3 -data-dir=/x -log-format json");
    let two = flags("--id node1 --http :8080 --peers node2,node3 --data-dir=/x --log-format json");
    assert_eq!(format!("{one:?}"), format!("{two:?}"));
    assert_eq!(one.id.as_deref(), Some("node1"));
    assert_eq!(one.data_dir, Some(PathBuf::from("/x")));
}

#[test]
fn one_dash_works_in_the_subcommand() {
    let Some(Command::Dev(dev)) = flags("dev -nodes 5").command else {
        panic!("not the dev command");
    };
    assert_eq!(dev.nodes, 5);
}

#[test]
fn a_value_that_begins_with_a_dash_stays_a_value() {
    assert_eq!(
        flags("--id=n1 --data-dir=-http").data_dir,
        Some(PathBuf::from("-http"))
    );
    let error = try_flags("--id -http :8080").expect_err("a flag is no name");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn short_help_and_version_are_left_alone() {
    for line in ["-h", "-help", "--help", "-V", "-version"] {
        let error = try_flags(line).expect_err("prints and exits");
        assert_eq!(error.exit_code(), 0, "{line}: {error}");
    }
}

#[test]
fn a_flag_that_is_not_known_is_shown_whole() {
    for line in ["-no-such-flag", "-id node1 -no-such-flag=5"] {
        let error = try_flags(line).expect_err(line).to_string();
        assert!(error.contains("--no-such-flag"), "{line}: {error}");
    }
}

#[test]
fn a_peers_list_from_an_unset_variable_is_no_cluster_of_one() {
    let words = ["server", "--id", "node1", "--peers", ""].map(Into::into);
    let error = Config::from_flags(&parse(words).expect("flags")).expect_err("nobody is named");
    assert_eq!(error, ConfigError::NoPeers);
}

#[test]
fn the_three_terminals_find_each_other() {
    let config = config("-id node1 -http :8080 -peers node2,node3").unwrap();
    assert_eq!(config.listen, HostPort::loopback(7001));
    assert_eq!(config.http, Some(HostPort::loopback(8080)));
    assert_eq!(peers(&config), ["node2=127.0.0.1:7002", "node3=127.0.0.1:7003"]);
    assert_eq!(config.data_dir, PathBuf::from("data/node1"));
}

#[test]
fn explicit_addresses_are_honoured() {
    let line =
        "--id n1 --http 10.0.0.1:8080 --listen 10.0.0.1:7000 --peers n3=10.0.0.3:7000 --peers n2=[::1]:7000";
    let config = config(line).unwrap();
    assert_eq!(config.listen.to_string(), "10.0.0.1:7000");
    assert_eq!(peers(&config), ["n2=[::1]:7000", "n3=10.0.0.3:7000"]);
    assert!(!config.listen.is_loopback());
}

#[test]
fn peers_may_name_this_node_too() {
    assert_eq!(
        peers(&config("--id node1 --peers node1,node2").unwrap()),
        ["node2=127.0.0.1:7002"]
    );
    let error = config("--id node1 --peers node1=127.0.0.1:9,node2").expect_err("contradicts itself");
    assert!(matches!(error, ConfigError::OwnAddressDiffers { .. }), "{error}");
}

#[test]
fn every_refusal_says_what_to_type() {
    let cases = [
        ("--http :8080", "--id is missing"),
        ("--id alpha", "add --listen HOST:PORT"),
        ("--id node99999", "add --listen HOST:PORT"),
        ("--id node99999", "a number up to 58535"),
        ("--id node1 --peers beta", "write beta=HOST:PORT"),
        ("--id node1 --peers ,", "--peers names nobody"),
        ("--id node1 --peers beta=:7002", "write beta=HOST:PORT"),
        ("--id node1 --peers b=1.1.1.1:1,b=2.2.2.2:2", "names b twice"),
        ("--id node1 --peers node01", "same address 127.0.0.1:7001"),
        ("--id node1 --http 8080", "write HOST:PORT"),
        ("--id node1 --http :99999", "write HOST:PORT"),
        ("--id node1 --listen [10.0.0.1]:7000", "write HOST:PORT"),
        ("--id no/de1", "not a usable name"),
        ("--id node1 --listen 0.0.0.0:7001", "add --advertise HOST:7001"),
        ("--id node1 --advertise :7001", "write HOST:PORT with both"),
        ("--id node1 --tls-cert c", "--tls-cert and --tls-key go together"),
        ("--id node1 --tls-key k", "--tls-cert and --tls-key go together"),
        ("--id node1 --tls-ca a", "--tls-cert and --tls-key go together"),
        (
            "--id node1 --tls-client-certificates required",
            "--tls-cert and --tls-key go together",
        ),
        (
            "--id node1 --tls-cert c --tls-key k --tls-client-certificates required",
            "name the authority's certificate with --tls-ca",
        ),
        (
            "--id node1 --tls-cert c --tls-key k --peers node2",
            "nodes prove to each other that they are nodes",
        ),
        (
            "--id node1 --tls-cert c --tls-key k --join 127.0.0.1:7002",
            "nodes prove to each other that they are nodes",
        ),
    ];
    for (line, expected) in cases {
        let error = config(line).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn all_interfaces_with_an_advertised_address_work() {
    let config =
        config("--id n1 --listen 0.0.0.0:7000 --advertise n1.example:7000 --peers n2=n2.example:7000")
            .unwrap();
    assert!(config.listen.is_unspecified());
    assert_eq!(config.advertise.unwrap().to_string(), "n1.example:7000");
}

#[test]
fn repeated_equal_peers_are_one() {
    assert_eq!(
        peers(&config("--id node1 --peers node2,node2 --peers node2").unwrap()).len(),
        1
    );
}

#[test]
fn who_must_have_a_certificate_follows_from_the_authority_unless_said() {
    let clients = |more: &str| {
        let config = config(&format!("--id node1 --tls-cert c --tls-key k {more}")).unwrap();
        config.tls.unwrap().clients
    };
    for (more, expected) in [
        ("", ClientCertificates::Optional),
        ("--tls-client-certificates optional", ClientCertificates::Optional),
        ("--tls-ca a", ClientCertificates::Required),
        (
            "--tls-ca a --tls-client-certificates required",
            ClientCertificates::Required,
        ),
        (
            "--tls-ca a --tls-client-certificates optional",
            ClientCertificates::Optional,
        ),
    ] {
        assert_eq!(clients(more), expected, "{more}");
    }
    assert!(config("--id node1").unwrap().tls.is_none());
    let error = config("--id node1 --tls-cert c --tls-key k --tls-crl l").expect_err("whose list?");
    assert!(matches!(error, ConfigError::ListWithoutAuthority), "{error}");
}

#[test]
fn an_address_without_a_host_is_wide_only_within_tls() {
    for (tls, http) in [
        ("", "127.0.0.1:8080"),
        ("--tls-cert c --tls-key k", "0.0.0.0:8080"),
    ] {
        let config = config(&format!("--id node1 --http :8080 --probes :8080 {tls}")).unwrap();
        assert_eq!(config.http.unwrap().to_string(), http);
        assert_eq!(config.probes.unwrap().to_string(), http);
        assert_eq!(config.listen.to_string(), "127.0.0.1:7001");
    }
    let error = config("--id node1 --listen :7001 --tls-cert c --tls-key k").expect_err("nobody can be told");
    assert!(matches!(error, ConfigError::UnreachableListen { .. }), "{error}");
}
