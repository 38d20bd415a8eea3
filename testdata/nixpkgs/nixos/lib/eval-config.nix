# A NixOS system of modules.
{
  system ? "x86_64-linux",
  modules,
  specialArgs ? { },
  pkgs ? import ../.. { inherit system; },
  ...
}:
let
  result = (import ../../lib).evalModules {
    modules = modules ++ [ ../base.nix ];
    specialArgs = {
      inherit pkgs;
      modulesPath = toString ../modules;
    }
    // specialArgs;
  };
in
result // { inherit pkgs; }
