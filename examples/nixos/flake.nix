{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      system =
        name:
        nixpkgs.lib.nixosSystem {
          system = "x86_64-linux";
          modules = [
            ./bellhop-host.nix # deployment.keys
            ./services
            (./hosts + "/${name}.nix")
          ];
        };
    in
    {
      nixosConfigurations = nixpkgs.lib.genAttrs [ "chrysalis" "lufta" ] system;
    };
}
