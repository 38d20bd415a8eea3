# A NixOS host of a bellhop fleet: it declares deployment.keys as NixOps and Colmena spell them, with a unit
# NAME-key.service for each key, so that a configuration that was written for one of those two needs no change.
#
# The file stands by itself: import it from this flake (nixosModules.bellhop-host), or copy it into your repo.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;

  key =
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          description = "The file's name below destDir.";
        };
        text = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "The value itself. Everybody who can read the repo or the deployer's Nix store reads it: prefer keyFile with a sealed file.";
        };
        keyFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          description = "A file of the repo that holds the value: ./secrets/NAME.age, which bellhop secret set makes, and which bellhop opens, never Nix.";
        };
        keyCommand = mkOption {
          type = types.nullOr (types.listOf types.str);
          default = null;
          description = "A command that prints the value. It runs on the deployer, and only with serve --allow-key-command.";
        };
        destDir = mkOption {
          type = types.str;
          default = "/run/keys";
          description = "The folder of the file: /run/keys, which is in RAM, or one below it.";
        };
        user = mkOption {
          type = types.str;
          default = "root";
          description = "Whose the file is.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "The group of the file. The folder is open to the group keys alone: who reads a key needs extraGroups = [ \"keys\" ].";
        };
        permissions = mkOption {
          type = types.str;
          default = "0600";
          description = "The mode of the file, octal.";
        };
        uploadAt = mkOption {
          type = types.enum [
            "pre-activation"
            "post-activation"
          ];
          default = "pre-activation";
          description = "Accepted as Colmena has it. bellhop brings all keys before the switch.";
        };
        path = mkOption {
          type = types.str;
          default = "${config.destDir}/${config.name}";
          readOnly = true;
          description = "Where the file is on the host.";
        };
      };
    };

  keys = lib.attrValues config.deployment.keys;
  folders = lib.unique (map (k: k.destDir) keys);

  # What NixOps and Colmena have below deployment, beside keys and what is declared below. It is accepted, so that
  # one configuration serves both, and says nothing to bellhop: hosts and how they are reached stand in bellhop.yaml.
  others = [
    "allowLocalDeployment"
    "alwaysActivate"
    "buildOnTarget"
    "hasFastConnection"
    "none"
    "owners"
    "privilegeEscalationCommand"
    "provisionSSHKey"
    "replaceUnknownProfiles"
    "sshOptions"
    "storeKeysOnMachine"
    "targetEnv"
    "targetHost"
    "targetPort"
    "targetUser"
  ];

  # The unit waits until the file is there, and is active from then on. It is no process that watches the file, so a
  # new value, which replaces the file at once, leaves it active: nothing that requires it is stopped.
  keyUnit = k: {
    description = "Key ${k.name}";
    # No default dependencies: a socket that waits for its key would be ordered before and after basic.target.
    unitConfig = {
      DefaultDependencies = false;
      StartLimitIntervalSec = 0;
    };
    conflicts = [ "shutdown.target" ];
    before = [
      "keys.target"
      "shutdown.target"
    ];
    wantedBy = [ "keys.target" ];
    # A new nixpkgs changes the text of the unit. To restart it would stop all that requires it.
    restartIfChanged = false;
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
      TimeoutStartSec = "infinity";
    };
    script = "until [ -e ${lib.escapeShellArg k.path} ]; do sleep 0.5; done";
  };

  # Without a service that wants it, the unit is started when the file comes.
  keyPath = k: {
    description = "Key ${k.name} has come";
    wantedBy = [ "paths.target" ];
    pathConfig.PathExists = k.path;
  };

  # A unit whose file is gone stops. One that still waits for its file is left alone: to stop it would cancel the
  # start of what waits for it.
  gone = k: ''
    if [ ! -e ${lib.escapeShellArg k.path} ] && systemctl is-active --quiet ${lib.escapeShellArg "${k.name}-key.service"}; then
      systemctl stop --no-block ${lib.escapeShellArg "${k.name}-key.service"}
    fi
  '';
in
{
  options.deployment = {
    keys = mkOption {
      type = types.attrsOf (types.submodule key);
      default = { };
      description = "Keys that bellhop brings to this host before it switches to this system, and again after each boot.";
    };
    tags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Read by bellhop import alone; bellhop.yaml has the tags of hosts.";
    };
  }
  // lib.genAttrs others (
    name:
    mkOption {
      type = types.anything;
      default = null;
      description = "Accepted as NixOps or Colmena has it, and read by bellhop import at most.";
    }
  );

  config = {
    assertions = lib.concatMap (k: [
      {
        assertion = lib.count (v: v != null) [ k.text k.keyFile k.keyCommand ] == 1;
        message = "deployment.keys.${k.name}: want one of text, keyFile and keyCommand";
      }
      {
        assertion = k.destDir == "/run/keys" || lib.hasPrefix "/run/keys/" k.destDir;
        message = "deployment.keys.${k.name}: destDir ${k.destDir} is not below /run/keys, the only place whose files are never on disk";
      }
    ]) keys;

    systemd.services =
      lib.listToAttrs (map (k: lib.nameValuePair "${k.name}-key" (keyUnit k)) keys)
      // lib.optionalAttrs (keys != [ ]) {
        bellhop-keys = {
          description = "Stop the units of keys that are gone";
          serviceConfig.Type = "oneshot";
          script = lib.concatMapStrings gone keys;
        };
      }
      // {
        # A plug pulled between the new system profile and the switch leaves a journal; the deploy is undone here.
        bellhop-settle = {
          description = "Finish or undo a deploy that was cut off";
          wantedBy = [ "multi-user.target" ];
          after = [ "multi-user.target" ];
          unitConfig.ConditionPathExists = "/var/lib/bellhop/journal";
          serviceConfig.Type = "oneshot";
          # The first folder that can execute is where bellhop put its helper.
          script = ''
            for dir in /usr/local/libexec/bellhop /opt/bellhop/.bin /var/lib/bellhop/bin; do
              if [ -x "$dir/current" ]; then exec "$dir/current" host-helper settle; fi
            done
            echo "bellhop's helper is not on this host" >&2
            exit 1
          '';
        };
      };

    systemd.paths =
      lib.listToAttrs (map (k: lib.nameValuePair "${k.name}-key" (keyPath k)) keys)
      // lib.optionalAttrs (keys != [ ]) {
        bellhop-keys = {
          description = "Keys come and go";
          wantedBy = [ "paths.target" ];
          pathConfig.PathChanged = folders;
        };
      };
  };
}
