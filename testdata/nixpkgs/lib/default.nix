# The module system of nixpkgs in little: options with types, mkIf, mkMerge, mkDefault, mkForce, imports and
# submodules. What is no option is refused, as there.
let
  b = builtins;
  isKind = kind: v: b.isAttrs v && (v._type or "") == kind;
  isOption = isKind "option";

  # The definitions that a value stands for: those of mkIf and mkMerge, each with its priority.
  flat =
    priority: v:
    if isKind "if" v then
      (if v.condition then flat priority v.content else [ ])
    else if isKind "merge" v then
      b.concatMap (flat priority) v.contents
    else if isKind "override" v then
      flat v.priority v.content
    else
      [ { inherit priority; value = v; } ];

  # Of all definitions, those that count.
  chosen =
    definitions:
    let
      all = b.concatMap (flat 100) definitions;
      least = b.foldl' (x: d: if d.priority < x then d.priority else x) 9999 all;
    in
    map (d: d.value) (b.filter (d: d.priority == least) all);

  # mkIf around options goes down to each of them, so that a condition may depend on other options.
  push =
    v:
    if isKind "if" v then
      map (b.mapAttrs (_: lib.mkIf v.condition)) (push v.content)
    else if isKind "merge" v then
      b.concatMap push v.contents
    else
      [ v ];

  zip =
    f: list:
    b.listToAttrs (
      map (n: {
        name = n;
        value = f n (b.concatMap (a: if a ? ${n} then [ a.${n} ] else [ ]) list);
      }) (b.attrNames (b.foldl' (x: y: x // y) { } list))
    );

  merge = loc: type: definitions: type.merge loc (chosen definitions);

  wrong = loc: type: throw "A definition for option `${loc}' is not of type `${type}'.";
  isText = v: b.isString v || (b.isAttrs v && v ? outPath);
  leaf = name: check: {
    inherit name;
    merge =
      loc: values:
      let
        v = b.head values;
      in
      if !(b.all check values) then
        wrong loc name
      else if b.all (other: other == v) values then
        v
      else
        throw "The option `${loc}' has conflicting definition values.";
  };

  types = {
    str = leaf "string" b.isString;
    int = leaf "signed integer" b.isInt;
    port = leaf "16 bit unsigned integer" (v: b.isInt v && v >= 0 && v < 65536);
    bool = leaf "boolean" b.isBool;
    path = leaf "absolute path" (v: b.isPath v || (isText v && b.substring 0 1 (toString v) == "/"));
    package = leaf "package" (v: isText v);
    raw = leaf "raw value" (_: true);
    anything = {
      name = "anything";
      merge = loc: values: if b.all b.isAttrs values then zip (n: vs: merge "${loc}.${n}" types.anything vs) values else types.raw.merge loc values;
    };
    lines = {
      name = "strings concatenated with \"\\n\"";
      merge = loc: values: if b.all b.isString values then b.concatStringsSep "\n" values else wrong loc "lines";
    };
    nullOr = type: {
      name = "null or ${type.name}";
      merge = loc: values: if b.all (v: v == null) values then null else type.merge loc (b.filter (v: v != null) values);
    };
    enum = values: leaf "one of ${b.toJSON values}" (v: b.elem v values);
    listOf = type: {
      name = "list of ${type.name}";
      merge = loc: values: if b.all b.isList values then map (v: merge "${loc}.[]" type [ v ]) (b.concatLists values) else wrong loc "list of ${type.name}";
    };
    attrsOf = type: {
      name = "attribute set of ${type.name}";
      merge = loc: values: if b.all b.isAttrs values then zip (n: vs: merge "${loc}.${n}" type vs) (b.concatMap push values) else wrong loc "attribute set of ${type.name}";
    };
    submodule = module: {
      name = "submodule";
      merge =
        loc: values:
        (evaluate {
          prefix = loc;
          args.name = b.head (b.match ".*[.]([^.]*)" ".${loc}");
          modules = [ module ] ++ map (v: if b.isFunction v then v else { config = v; }) values;
        }).config;
    };
  };

  below = loc: name: if loc == "" then name else "${loc}.${name}";

  # The value of a tree of options under definitions. What is no option is of the type freeform, unless that is null.
  fill =
    freeform: loc: option: definitions:
    if isOption option then
      (
        let
          hasOne = b.concatMap (flat 100) definitions != [ ];
        in
        if hasOne then
          merge loc (option.type or types.raw) definitions
        else if option ? default then
          option.default
        else
          throw "The option `${loc}' was accessed but has no value defined."
      )
    else
      let
        sets = b.concatMap push definitions;
        unknown = b.filter (n: !(option ? ${n})) (b.concatMap b.attrNames sets);
        values = b.mapAttrs (n: o: fill null (below loc n) o (b.concatMap (s: if s ? ${n} then [ s.${n} ] else [ ]) sets)) option;
        others = if freeform == null then { } else merge loc freeform (map (s: b.removeAttrs s (b.attrNames option)) sets);
      in
      if unknown != [ ] && freeform == null then throw "The option `${below loc (b.head unknown)}' does not exist." else others // values;

  joinOptions = zip (n: sets: if b.length sets == 1 then b.head sets else if b.any isOption sets then throw "The option `${n}' is declared twice." else joinOptions sets);

  evaluate =
    {
      modules,
      args ? { },
      prefix ? "",
    }:
    let
      all = { inherit lib config options; } // args;
      call = m: if b.isFunction m then m all else if b.isAttrs m then m else call (import m);
      withImports = m: let own = call m; in b.concatMap withImports (own.imports or [ ]) ++ [ own ];
      every = b.concatMap withImports modules;
      options = joinOptions (map (m: m.options or { }) every);
      configOf = m: if m ? config || m ? options then m.config or { } else b.removeAttrs m [ "imports" "_file" "key" ];
      freeform = b.foldl' (x: m: m.freeformType or x) null every;
      config = fill freeform prefix options (map configOf every);
    in
    {
      inherit config options;
    };

  lib = {
    inherit types;
    inherit (b) attrNames attrValues concatLists concatMap elem elemAt filter hasAttr head isAttrs isBool isList isString length listToAttrs mapAttrs removeAttrs replaceStrings tail concatStringsSep functionArgs;
    mkOption = o: o // { _type = "option"; };
    mkEnableOption = description: lib.mkOption { type = types.bool; default = false; inherit description; };
    mkIf = condition: content: { _type = "if"; inherit condition content; };
    mkMerge = contents: { _type = "merge"; inherit contents; };
    mkOverride = priority: content: { _type = "override"; inherit priority content; };
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;
    evalModules = { modules, specialArgs ? { } }: evaluate { inherit modules; args = specialArgs; };
    nameValuePair = name: value: { inherit name value; };
    mapAttrsToList = f: s: map (n: f n s.${n}) (b.attrNames s);
    mapAttrs' = f: s: b.listToAttrs (lib.mapAttrsToList f s);
    filterAttrs = keep: s: b.removeAttrs s (b.filter (n: !keep n s.${n}) (b.attrNames s));
    genAttrs = names: f: b.listToAttrs (map (n: lib.nameValuePair n (f n)) names);
    optional = condition: v: if condition then [ v ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    unique = b.foldl' (found: v: if b.elem v found then found else found ++ [ v ]) [ ];
    count = keep: list: b.length (b.filter keep list);
    concatMapStrings = f: list: b.concatStringsSep "" (map f list);
    concatMapStringsSep = sep: f: list: b.concatStringsSep sep (map f list);
    hasPrefix = prefix: text: b.substring 0 (b.stringLength prefix) text == prefix;
    boolToString = v: if v then "true" else "false";
    escapeShellArg = v: "'${b.replaceStrings [ "'" ] [ "'\\''" ] (toString v)}'";
    licenses.mit = "MIT";
    platforms.linux = [ "aarch64-linux" "x86_64-linux" ];
  };
in
lib
