{
  description = "git push, and the machines are what the repo says";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "aarch64-linux"
        "x86_64-linux"
      ];
    in
    {
      # For the hosts of a fleet: deployment.keys, and a unit for each key.
      nixosModules.bellhop-host = ./contrib/nixos/bellhop-host.nix;

      # For the machine that deploys.
      nixosModules.bellhop =
        { lib, pkgs, ... }:
        {
          imports = [ ./contrib/nixos/bellhop.nix ];
          services.bellhop.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };

      packages = nixpkgs.lib.genAttrs systems (system: {
        default = nixpkgs.legacyPackages.${system}.callPackage ./contrib/nixos/package.nix { src = self; };
      });
    };
}
