{
  networking.hostName = "chrysalis";
  system.stateVersion = "25.11";
  services.openssh.enable = true; # how bellhop comes in; bellhop host add gives its key to root

  # What nixos-generate-config wrote into hardware-configuration.nix.
  boot.loader.grub.device = "/dev/sda";
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };

  within.services.withinbot.enable = true;
  within.services.printerfacts.enable = true;
}
