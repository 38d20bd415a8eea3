# bellhop, and beside it the helper that it brings to hosts of the same architecture.
{
  lib,
  buildGoModule,
  src,
}:
buildGoModule (
  let
    helper = "bellhop-host-linux-$GOARCH";
  in
  {
    pname = "bellhop";
    version = src.shortRev or src.dirtyShortRev or "unknown";
    inherit src;

    # The SHA-256 of what go mod vendor makes. A test keeps it right.
    vendorHash = "sha256-SO/5/YR2cjGahEkgKR1EsMjK+IBrf5PN9Vf4qxXUUi8=";

    env.CGO_ENABLED = 0;
    subPackages = [ "cmd/bellhop" ];
    ldflags = [
      "-s"
      "-w"
    ];

    # The helper comes first: bellhop is built with its digest, and takes no other one.
    preBuild = ''
      export GOARCH="$(go env GOARCH)"
      go build -trimpath -ldflags='-s -w' -o "$NIX_BUILD_TOP/${helper}" ./cmd/bellhop-host
      ldflags+=" -X bellhop/internal/link.builtHelpers=$GOARCH:$(sha256sum "$NIX_BUILD_TOP/${helper}" | cut -c -64)"
    '';
    postInstall = ''
      install -m 555 "$NIX_BUILD_TOP/${helper}" "$out/bin/${helper}"
      "$out/bin/bellhop" man "$out/share/man/man1"
    '';
    # go test ./... needs git, loopback, and for some of it root: it runs where the project is developed.
    doCheck = false;

    meta = {
      description = "Deploys a fleet of Linux machines from one git repo, on git push";
      license = lib.licenses.mit;
      mainProgram = "bellhop";
      platforms = lib.platforms.linux;
    };
  }
)
