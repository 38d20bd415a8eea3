# A stand-in for a NixOS system, from a derivation alone: there is no nixpkgs. make is a piece of shell
# that writes units to $out/units, and whatever else the system is to have to $out.
{ name, make, switch ? builtins.readFile ./switch.sh }:
derivation {
  inherit name switch;
  system = builtins.currentSystem or "x86_64-linux";
  builder = "/bin/sh";
  PATH = "/usr/bin:/bin";
  args = [ "-c" ''
    mkdir -p $out/bin $out/units
    printf '%s\n' "$switch" > $out/bin/switch-to-configuration
    chmod 755 $out/bin/switch-to-configuration
    ${make}
  '' ];
}
