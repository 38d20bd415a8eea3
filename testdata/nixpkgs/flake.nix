# A stand-in for nixpkgs: enough of it to evaluate NixOS modules, and to build systems that a machine with systemd
# and without NixOS can switch to. Tests have no network to fetch the true one.
{
  outputs =
    { self }:
    {
      lib = import ./lib // {
        nixosSystem = args: import ./nixos/lib/eval-config.nix args;
      };
      legacyPackages.x86_64-linux = import ./. { system = "x86_64-linux"; };
      legacyPackages.aarch64-linux = import ./. { system = "aarch64-linux"; };
    };
}
