{ config, lib, pkgs, ... }:
let
  cfg = config.within.services.withinbot;
in
{
  options.within.services.withinbot.enable = lib.mkEnableOption "the furryhole chatbot";

  config = lib.mkIf cfg.enable {
    users.groups.within = { };
    users.users.withinbot = {
      isSystemUser = true;
      description = "furryhole chatbot";
      group = "within";
      home = "/srv/within/withinbot";
      createHome = true;
      extraGroups = [ "keys" ]; # /run/keys is open to this group
    };

    # bellhop opens the sealed file and brings its value to /run/keys/withinbot, before the switch and after each boot.
    deployment.keys.withinbot = {
      keyFile = ../secrets/withinbot.age;
      user = "withinbot";
      group = "within";
      permissions = "0640";
    };

    systemd.services.withinbot = {
      description = "furryhole chatbot";
      wantedBy = [ "multi-user.target" ];
      after = [ "withinbot-key.service" ];
      wants = [ "withinbot-key.service" ];
      serviceConfig = {
        User = "withinbot";
        Group = "within";
        WorkingDirectory = "/srv/within/withinbot";
        Restart = "on-failure";
        RestartSec = "30s";
      };
      # In place of a bot: it reads its token, says for whom, and stays.
      script = ''
        . /run/keys/withinbot
        echo "withinbot speaks in $CHANNEL" >started
        exec ${pkgs.coreutils}/bin/sleep infinity
      '';
    };
  };
}
