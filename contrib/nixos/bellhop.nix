# bellhop itself as a service of a NixOS machine: services.bellhop. Each flag of bellhop serve is a setting of the same
# name; contrib/bellhop.service is the same unit for other systems, and a test keeps the two alike.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.bellhop;

  setting =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  text = setting types.str;
  list = setting (types.listOf types.str);
  switch = setting types.bool;
  # A file is named by text: a path of the Nix language would be copied into the store, where everybody can read it.
  file = description: text "${description} Write it as text, \"/run/keys/x\": a path without quotes is copied into the store.";

  # A word of ExecStart=, as systemd reads it.
  escape = word: lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON word);
  one = name: value: "--${name}=${if lib.isBool value then lib.boolToString value else value}";
  words = name: value: if lib.isList value then map (one name) value else [ (one name value) ];
  flags = lib.concatLists (lib.mapAttrsToList words (lib.filterAttrs (_: v: v != null) cfg.settings));
in
{
  options.services.bellhop = {
    enable = lib.mkEnableOption "bellhop, which deploys a fleet of machines on git push";

    package = mkOption {
      type = types.package;
      description = "The bellhop that is run.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "A file with BELLHOP_REPO_TOKEN=… for a repo over https, as text: \"/run/keys/bellhop.env\".";
    };

    settings = {
      repo = mkOption {
        type = types.str;
        description = "The config repo: https://…, git@host:path, ssh://… or a path.";
      };
      branch = text "The branch that is deployed.";
      path = text "The config's folder in a larger repo.";
      rewritten = setting (types.enum [ "follow" "refuse" ]) "When the branch's history was rewritten.";
      repo-key = file "SSH private key for the repo; by default the one for hosts.";
      repo-host-key = list "Host keys of the git server, as lines of authorized_keys. GitHub's are known.";
      poll = text "How often to ask the repo: \"30s\"; \"0\": never.";

      listen = text "Address of the webhook listener; \"off\": none.";
      webhook-secret = file "File with the webhook's secret; by default webhook-secret in the state directory.";
      webhook-repo = text "OWNER/NAME that deliveries must name.";
      trust-proxy = list "CIDRs of proxies whose X-Forwarded-For is trusted.";
      ring-group = text "Group that may trigger runs over ring.sock.";

      admin = text "Address of the listener for the page, status and metrics; \"off\": none.";
      admin-open = switch "No token for the admin listener, which must be on loopback.";
      admin-token = file "File with the token of the admin listener; by default admin-token in the state directory.";
      public-url = text "Address at which people reach the page, for links in messages.";

      forge = setting (types.enum [ "github" "forgejo" "gitea" "gitlab" ]) "What the repo's host is.";
      forge-url = text "Base of the forge's API.";
      forge-token = file "File with a token of the forge, by which commits get a status.";
      github-app = text "Id of a GitHub App that is installed on the repo, in place of forge-token.";
      github-app-key = file "File with the private key of github-app.";
      plan-comments = setting (types.enum [ "full" "summary" "off" ]) "The comment with the plan of a request to merge.";
      plan-forks = switch "Plan requests from forks too, which everybody who can read the repo may open.";
      plan-nixos = switch "Evaluate the NixOS systems of requests, without a network. Whoever may open one runs code of the Nix language.";

      nix-ifd = switch "Let the evaluation of a NixOS system build what it then reads (import from derivation).";
      allow-key-command = switch "Run the keyCommand of deployment.keys, with the rights of this service.";

      identity = list "Age identity files; by default identity.age in the state directory.";
      allow-plugin = list "Absolute paths of age plugins that may be run.";
      ssh-key = file "SSH private key for hosts; by default ssh_ed25519 in the state directory.";
      testing = switch "What a branch testing-HOST has is tried on that NixOS host, until its next boot.";
      load-memory = text "How much memory reading one commit may take: \"512MiB\".";
      load-timeout = text "How long reading and checking one commit may take: \"30s\".";
      log-level = setting (types.enum [ "debug" "info" "warn" "error" ]) "What is logged.";
      trace = text "Write what runs do, and when, to this file.";
    };
  };

  config = lib.mkIf cfg.enable {
    users.users.bellhop = {
      isSystemUser = true;
      group = "bellhop";
      description = "bellhop deployer";
      home = "/var/lib/bellhop-deployer";
    };
    users.groups.bellhop = { };
    users.users.bellhop-nix = {
      isSystemUser = true;
      group = "bellhop-nix";
      description = "evaluation for bellhop";
      home = "/var/cache/bellhop-nix";
    };
    users.groups.bellhop-nix = { };
    environment.systemPackages = [ cfg.package ]; # bellhop status, on this machine

    systemd.services.bellhop = {
      description = "bellhop: git push, and the machines are what the repo says";
      documentation = [ "man:bellhop(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      path = [ config.nix.package ]; # it builds the systems of NixOS hosts
      # Not /var/lib/bellhop: where this machine is itself a host of a fleet, that is root's.
      environment = {
        BELLHOP_STATE_DIR = "%S/bellhop-deployer";
        NIX_REMOTE = "daemon";
      };
      serviceConfig = {
        Type = "notify";
        ExecStart = lib.concatStringsSep " " ([ "${cfg.package}/bin/bellhop" "serve" ] ++ map escape flags);
        User = "bellhop";
        Group = "bellhop";
        StateDirectory = "bellhop-deployer";
        StateDirectoryMode = "0700";
        UMask = "0077";
        Restart = "on-failure";
        RestartSec = "5s";
        TimeoutStopSec = 60; # hosts past "applied" are confirmed before it goes
        # The plaintext of keys lives in this process: no dumps, no swap.
        LimitCORE = 0;
        MemorySwapMax = 0;
        NoNewPrivileges = true;
        CapabilityBoundingSet = "";
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectKernelTunables = true;
        ProtectKernelModules = true;
        ProtectKernelLogs = true;
        ProtectControlGroups = true;
        ProtectClock = true;
        ProtectProc = "invisible";
        RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
        RestrictNamespaces = true;
        RestrictSUIDSGID = true;
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
        SystemCallArchitectures = "native";
        # seccomp: the process that reads commits takes all calls from itself that it has no use for.
        SystemCallFilter = "@system-service seccomp";
      }
      // lib.optionalAttrs (cfg.environmentFile != null) { EnvironmentFile = cfg.environmentFile; };
    };

    # Configurations of NixOS hosts are code: processes of another user, who cannot see bellhop's state, evaluate and
    # build them. These are contrib/bellhop-nix.socket and contrib/bellhop-nix@.service.
    systemd.sockets.bellhop-nix = {
      description = "Evaluation of NixOS systems for bellhop";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = "/run/bellhop-nix/socket";
        Accept = true;
        MaxConnections = 4;
        SocketUser = "bellhop"; # nobody else may ask
        SocketMode = "0600";
      };
    };
    systemd.services."bellhop-nix@" = {
      description = "Evaluate or build NixOS systems for bellhop";
      path = [ config.nix.package ];
      environment.NIX_REMOTE = "daemon";
      # A switch of this machine leaves an ask that is at work alone: it can't be started without its connection.
      restartIfChanged = false;
      unitConfig.CollectMode = "inactive-or-failed";
      serviceConfig = {
        ExecStart = "${cfg.package}/bin/bellhop nix-worker";
        StandardInput = "socket";
        StandardOutput = "journal";
        User = "bellhop-nix";
        CacheDirectory = "bellhop-nix";
        CacheDirectoryMode = "0700";
        UMask = "0077";
        RuntimeMaxSec = "7h";
        TasksMax = 1024;
        LimitCORE = 0;
        InaccessiblePaths = [
          "-/var/lib/bellhop-deployer -/var/lib/bellhop -/etc/bellhop -/etc/bellhop.env"
          "-/var/lib/lxd -/var/lib/incus -/var/snap/lxd"
        ];
        TemporaryFileSystem = "/run:ro";
        BindReadOnlyPaths = "-/run/systemd/resolve -/run/resolvconf -/run/NetworkManager/resolv.conf -/run/nscd -/run/current-system";
        NoNewPrivileges = true;
        CapabilityBoundingSet = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETUID CAP_SETGID";
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectKernelTunables = true;
        ProtectKernelModules = true;
        ProtectKernelLogs = true;
        ProtectControlGroups = true;
        ProtectClock = true;
        ProtectProc = "invisible";
        RestrictSUIDSGID = true;
      };
    };
  };
}
