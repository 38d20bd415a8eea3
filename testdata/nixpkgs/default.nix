# Packages are what the machine has below /usr.
{
  system ? builtins.currentSystem or "x86_64-linux",
  ...
}:
let
  pkgs = {
    inherit system;
    lib = import ./lib;
    path = ./.;
    stdenv.hostPlatform = { inherit system; };
    callPackage = file: args: let f = import file; in f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // args);
    # It has what a package says of itself, and builds nothing.
    buildGoModule =
      args:
      derivation {
        name = "${args.pname}-${args.version}";
        inherit system;
        inherit (args) src vendorHash subPackages preBuild postInstall;
        builder = "/bin/sh";
        args = [ "-c" "echo >$out" ];
      };
    bash = "/usr";
    coreutils = "/usr";
    python3 = "/usr";
    nix = "/usr";
  };
in
pkgs
