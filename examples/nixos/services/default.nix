# Every host has the modules; hosts/NAME.nix says which are enabled there.
{
  imports = [
    ./printerfacts.nix
    ./withinbot.nix
  ];
}
