package nixos

import (
	"encoding/json"
	"strings"

	"bellhop/internal/nixos/nixtree"
)

// systemsExpr is a function of a source and of asks that traces, for each host, that it begins and what it came
// to. A host that can't be evaluated ends the process; what was traced before holds. The marks have a
// word of chance in them, so that no configuration can say them.
//
// The list of systems is forced before the first host, so that what is wrong with the flake as a whole is
// not taken for the first host's trouble. A path goes through toString without context and never into toJSON.
const systemsExpr = `{ mark, url, dir, narHash, asks }: let
  b = builtins;
  plain = v: b.unsafeDiscardStringContext (toString v);
  flake = b.getFlake url;
  classic = (b.fetchTree { type = "path"; path = dir; inherit narHash; }).outPath;
  source = plain (if url == "" then classic else flake.sourceInfo.outPath);
  systems = flake.nixosConfigurations or (throw "the flake has no nixosConfigurations");
  walk = path: v: b.foldl' (x: name: x.${name}) v (b.filter (w: b.isString w && w != "") (b.split "[.]" path));
  fromFile = a: let v = import (classic + "/" + a.file); in walk a.attr (if b.isFunction v then v { } else v);
  configOf = a: if a.file != "" then fromFile a
    else systems.${a.attr} or (throw "the flake has no nixosConfigurations.${a.attr}");
  fileOf = f: if f == null then null
    else { type = b.typeOf f; path = plain f; context = b.isString f && b.hasContext f; };
  commandOf = c: if c == null then null else map plain c;
  keyOf = attr: k: {
    name = k.name or attr; text = (k.text or null) != null; file = fileOf (k.keyFile or null); command = commandOf (k.keyCommand or null);
    dir = plain (k.destDir or "/run/keys"); user = k.user or "root"; group = k.group or "root";
    permissions = k.permissions or "0600"; uploadAt = k.uploadAt or "pre-activation"; };
  keysOf = c: b.attrValues (b.mapAttrs keyOf (((c.config or { }).deployment or { }).keys or { }));
  one = a: let
    c = configOf a;
    top = if c ? config then c.config.system.build.toplevel else c;
    v = { drv = plain top.drvPath; out = plain top.outPath; keys = keysOf c; };
    in b.trace "${mark} begin ${a.host}" (b.deepSeq v (b.trace "${mark} done ${a.host} ${b.toJSON v}" true));
  asked = b.fromJSON asks;
  flakes = b.any (a: a.file == "") asked;
in b.seq (if flakes then b.attrNames systems else source)
  (b.trace "${mark} source ${source}" (b.foldl' (ok: a: b.seq ok (one a)) true asked))`

// textsExpr is a function of a source and of asks that gives the text of keys: host, to name, to text.
const textsExpr = `{ mark, url, dir, narHash, asks }: let
  b = builtins;
  plain = v: b.unsafeDiscardStringContext (toString v);
  flake = b.getFlake url;
  classic = (b.fetchTree { type = "path"; path = dir; inherit narHash; }).outPath;
  walk = path: v: b.foldl' (x: name: x.${name}) v (b.filter (w: b.isString w && w != "") (b.split "[.]" path));
  fromFile = a: let v = import (classic + "/" + a.file); in walk a.attr (if b.isFunction v then v { } else v);
  configOf = a: if a.file != "" then fromFile a else flake.nixosConfigurations.${a.attr};
  textsOf = c: b.listToAttrs (b.concatMap (n: let k = c.config.deployment.keys.${n}; in
    if (k.text or null) == null then [ ] else [ { name = k.name or n; value = plain k.text; } ]) (b.attrNames c.config.deployment.keys));
in b.listToAttrs (map (a: { name = a.host; value = textsOf (configOf a); }) (b.fromJSON asks))`

// call is the expression of a function with arguments for w and the asks.
func call(function, mark string, w *nixtree.Written, asks []Ask) string {
	list, err := json.Marshal(asks)
	if err != nil {
		panic(err) // plain strings always encode
	}

	url := ""
	if w.Flake {
		url = w.URL()
	}
	args := []string{"mark", mark, "url", url, "dir", w.Dir, "narHash", w.NarHash, "asks", string(list)}
	var e strings.Builder
	e.WriteString("(" + function + ") {")

	for i := 0; i < len(args); i += 2 {
		e.WriteString(" " + args[i] + " = " + quote(args[i+1]) + ";")
	}

	return e.String() + " }"
}

var nixEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "${", `\${`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// quote writes s as a string of the Nix language.
func quote(s string) string { return `"` + nixEscapes.Replace(s) + `"` }
