{ config, lib, pkgs, ... }:
let
  cfg = config.within.services.printerfacts;
in
{
  options.within.services.printerfacts = {
    enable = lib.mkEnableOption "facts about printers";
    port = lib.mkOption {
      type = lib.types.port;
      default = 5000;
      description = "Where it listens, on loopback.";
    };
  };

  config = lib.mkIf cfg.enable {
    users.groups.within = { };
    users.users.printerfacts = {
      isSystemUser = true;
      description = "facts about printers";
      group = "within";
      home = "/srv/within/printerfacts";
      createHome = true;
    };

    systemd.services.printerfacts = {
      description = "facts about printers";
      wantedBy = [ "multi-user.target" ];
      preStart = "echo 'a printer has no feelings' >facts.txt";
      serviceConfig = {
        User = "printerfacts";
        Group = "within";
        WorkingDirectory = "/srv/within/printerfacts";
        ExecStart = "${pkgs.python3}/bin/python3 -m http.server --bind 127.0.0.1 ${toString cfg.port}";
        Restart = "on-failure";
      };
    };
  };
}
