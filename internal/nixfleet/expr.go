package nixfleet

// readExpr is a function of a file, or of a folder with a flake, that gives the hosts of a network or a hive as JSON.
// Each host is a NixOS system of its modules with the nixpkgs that the file names, as NixOps and Colmena make it,
// and with all that deployment holds taken as it is. A host traces that it begins, so that an error has a name.
//
// The text of a key is not among what comes out, and a path goes through toString without context, never into JSON.
const readExpr = `{ file, flake, isColmena }: let
  b = builtins;
  plain = v: b.unsafeDiscardStringContext (toString v);
  source = b.getFlake flake;
  load = v: let x = if b.isPath v || b.isString v then import v else v; in
    if b.isFunction x || x ? __functor then x (b.intersectAttrs (b.functionArgs x) { inherit lib; pkgs = pkgsOf null; }) else x;
  withRequired = v: let x = load v; in b.foldl' (all: r: all // withRequired r) x (x.require or [ ]);
  raw = if file != "" then withRequired (/. + file)
    else if isColmena then source.colmenaHive or (load (source.colmena or (throw "the flake has neither colmenaHive nor colmena")))
    else load ((source.nixopsConfigurations or (throw "the flake has no nixopsConfigurations")).default);

  meta = if isColmena then raw.meta or raw.network or { } else raw.network or { };
  given = name: (meta.nodeNixpkgs or { }).${name} or (meta.nixpkgs or raw.nixpkgs or <nixpkgs>);
  pkgsOf = name: let np = given (if name == null then "" else name); in
    if b.isFunction np then np { }
    else if b.isAttrs np && np ? path && np ? lib then np
    else if b.isAttrs np && np ? outPath then import np.outPath { }
    else import np { };
  lib = (pkgsOf null).lib;
  open = { lib, ... }: let
      texts = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; };
    in { options.deployment = lib.mkOption { default = { }; type = lib.types.submodule {
      freeformType = lib.types.attrsOf lib.types.anything;
      options = { tags = texts; sshOptions = texts; };
    }; }; };

  own = [ "meta" "network" "defaults" "resources" "require" "nixpkgs" ];
  isMade = raw ? __schema && raw ? nodes;
  names = if isMade then b.attrNames raw.nodes else b.filter (n: !(b.elem n own)) (b.attrNames raw);
  nodes = if isMade then raw.nodes else b.listToAttrs (map (name: { inherit name; value = evaluated name; }) names);
  evaluated = name: let pkgs = pkgsOf name; in import (pkgs.path + "/nixos/lib/eval-config.nix") {
    system = pkgs.stdenv.hostPlatform.system or pkgs.system;
    modules = [ open (raw.defaults or { }) raw.${name} ];
    specialArgs = { inherit name nodes; resources = { }; uuid = ""; deploymentName = ""; }
      // (meta.specialArgs or { }) // ((meta.nodeSpecialArgs or { }).${name} or { });
  };

  keyOf = attr: k: {
    inherit attr; name = k.name or attr; text = (k.text or null) != null;
    file = if (k.keyFile or null) == null then "" else plain k.keyFile;
    command = if (k.keyCommand or null) == null then [ ] else map plain k.keyCommand; };
  hostOf = name: let d = nodes.${name}.config.deployment or { }; v = {
    inherit name;
    isAlone = isColmena && d ? targetHost && d.targetHost == null;
    address = if (d.targetHost or null) != null then plain d.targetHost else "";
    port = if (d.targetPort or null) != null then d.targetPort else 0;
    user = if (d.targetUser or null) != null then plain d.targetUser else "";
    tags = map plain (d.tags or [ ]);
    keys = b.attrValues (b.mapAttrs keyOf (d.keys or { })); };
    in b.trace "bellhop host ${name}" (b.deepSeq v v);
in {
  description = if b.isString (meta.description or null) then meta.description else "";
  source = if file != "" then "" else plain source.sourceInfo.outPath;
  systems = if file != "" then [ ] else b.attrNames (source.nixosConfigurations or { });
  hosts = map hostOf names;
}`
