# Some options of NixOS, and a system of them.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  texts = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  text = default: mkOption { type = types.str; inherit default; };
  any = default: mkOption { type = types.anything; inherit default; };
  switch = default: mkOption { type = types.bool; inherit default; };

  unit = {
    description = text "";
    documentation = texts;
    wantedBy = texts;
    requiredBy = texts;
    wants = texts;
    requires = texts;
    bindsTo = texts;
    conflicts = texts;
    after = texts;
    before = texts;
    unitConfig = any { };
  };
  service.options = unit // {
    enable = switch true;
    environment = any { };
    path = mkOption { type = types.listOf types.anything; default = [ ]; };
    script = mkOption { type = types.lines; default = ""; };
    preStart = mkOption { type = types.lines; default = ""; };
    serviceConfig = any { };
    restartIfChanged = switch true;
    stopIfChanged = switch true;
    restartTriggers = any [ ];
  };
  path.options = unit // { pathConfig = any { }; };
  socket.options = unit // { socketConfig = any { }; };

  user = { name, config, ... }: {
    options = {
      name = text name;
      isSystemUser = switch false;
      isNormalUser = switch false;
      description = text "";
      group = text "";
      extraGroups = texts;
      home = text "/var/empty";
      createHome = switch false;
      shell = any null;
      openssh.authorizedKeys.keys = texts;
    };
  };

  # One section of a unit; a list is a line for each item.
  valueOf = v: if lib.isBool v then lib.boolToString v else toString v;
  lines = section: lib.concatMapStrings (n: let v = section.${n}; in
    lib.concatMapStrings (one: "${n}=${valueOf one}\n") (if lib.isList v then v else [ v ])) (lib.attrNames section);
  join = name: list: lib.optionalAttrs (list != [ ]) { ${name} = lib.concatStringsSep " " list; };
  unitSection = u: "[Unit]\n" + lines (
    lib.optionalAttrs (u.description != "") { Description = u.description; }
    // join "Documentation" u.documentation // join "Wants" u.wants // join "Requires" u.requires // join "BindsTo" u.bindsTo
    // join "Conflicts" u.conflicts // join "After" u.after // join "Before" u.before // u.unitConfig);

  out = builtins.placeholder "out";
  environmentOf = s: map (n: "\"${n}=${toString s.environment.${n}}\"") (lib.attrNames s.environment);
  serviceText = name: s: unitSection s + "[Service]\n" + lines (
    lib.optionalAttrs (s.environment != { }) { Environment = environmentOf s; }
    // lib.optionalAttrs (!s.restartIfChanged) { X-RestartIfChanged = false; }
    // lib.optionalAttrs (s.preStart != "") { ExecStartPre = "${out}/scripts/${name}-pre-start"; }
    // lib.optionalAttrs (s.script != "") { ExecStart = "${out}/scripts/${name}-start"; } // s.serviceConfig);
  pathText = p: unitSection p + "[Path]\n" + lines p.pathConfig;

  files = lib.mapAttrs' (n: s: lib.nameValuePair "units/${n}.service" (serviceText n s)) config.systemd.services
    // lib.mapAttrs' (n: p: lib.nameValuePair "units/${n}.path" (pathText p)) config.systemd.paths
    // scriptsOf "start" (s: s.script) // scriptsOf "pre-start" (s: s.preStart)
    // { users = usersText; groups = lib.concatMapStrings (n: "${n}\n") (lib.attrNames config.users.groups); };
  scriptsOf = suffix: of: lib.mapAttrs' (n: s: lib.nameValuePair "scripts/${n}-${suffix}" "#!/bin/sh -e\n${of s}\n")
    (lib.filterAttrs (_: s: of s != "") config.systemd.services);
  usersText = lib.concatMapStrings (n: let u = config.users.users.${n}; in
    "${u.name} ${if u.group == "" then "nogroup" else u.group} ${u.home} ${lib.boolToString u.createHome} ${lib.concatStringsSep "," u.extraGroups}\n")
    (lib.attrNames config.users.users);
  wanted = kind: units: lib.concatMap (n: map (t: "${t}.wants/${n}.${kind}") units.${n}.wantedBy) (lib.attrNames units);
  links = wanted "service" config.systemd.services ++ wanted "path" config.systemd.paths;

  failed = lib.filter (a: !a.assertion) config.assertions;
  names = lib.attrNames files;
  variable = i: "file${toString i}";
  indexes = builtins.genList (i: i) (lib.length names);
  system = derivation ({
    name = "nixos-system-${config.networking.hostName}-${config.system.stateVersion}";
    inherit (pkgs) system;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    switch = builtins.readFile ./switch.sh;
    args = [ "-c" (''
      set -e
      mkdir -p $out/bin $out/units $out/scripts
      printf '%s\n' "$switch" >$out/bin/switch-to-configuration
    '' + lib.concatMapStrings (i: "printf '%s' \"\$${variable i}\" >$out/${builtins.elemAt names i}\n") indexes
      + lib.concatMapStrings (l: "mkdir -p $out/units/$(dirname ${l}) && ln -s ../$(basename ${l}) $out/units/${l}\n") links
      + "chmod 755 $out/bin/* $out/scripts/* || true\n") ];
  } // lib.listToAttrs (map (i: lib.nameValuePair (variable i) files.${builtins.elemAt names i}) indexes));
in
{
  options = {
    assertions = mkOption { type = types.listOf types.anything; default = [ ]; };
    warnings = texts;
    boot = any { };
    fileSystems = any { };
    environment.systemPackages = mkOption { type = types.listOf types.anything; default = [ ]; };
    environment.etc = any { };
    hardware = any { };
    networking.hostName = text "nixos";
    networking.firewall.allowedTCPPorts = mkOption { type = types.listOf types.port; default = [ ]; };
    nix.package = any pkgs.nix;
    nix.settings = any { };
    services.openssh.enable = switch false;
    system.stateVersion = text "24.05";
    system.build = any { };
    systemd.services = mkOption { type = types.attrsOf (types.submodule service); default = { }; };
    systemd.paths = mkOption { type = types.attrsOf (types.submodule path); default = { }; };
    systemd.sockets = mkOption { type = types.attrsOf (types.submodule socket); default = { }; };
    users.users = mkOption { type = types.attrsOf (types.submodule user); default = { }; };
    users.groups = mkOption { type = types.attrsOf (types.submodule { options.gid = any null; }); default = { }; };
  };

  config.users.groups.keys = { };
  config.system.build.toplevel =
    if failed == [ ] then system else throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (a: "- ${a.message}") failed}";
}
