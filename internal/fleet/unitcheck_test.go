package fleet_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"maps"
	"slices"
	"strings"
	"testing"
)

const serve = "[Service]\nExecStart=/bin/true\n"

// What no systemd does is refused, with the place and what was meant.
func TestUnitsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, want string
	}{
		"value outside an enumeration": {"svc.service", serve + "Restart=sometimes\n", `svc.service:3:1: Restart=sometimes: want no, on-success`},
		"value with a hint":            {"svc.service", serve + "Restart=on-failur\n", `did you mean "on-failure"?`},
		"type":                         {"svc.service", serve + "Type=onesht\n", `svc.service:3:1: Type=onesht: want simple`},
		"kill mode in capitals":        {"svc.service", serve + "KillMode=Mixed\n", `did you mean "mixed"?`},
		"boolean":                      {"svc.service", serve + "NoNewPrivileges=ture\n", `NoNewPrivileges=ture: want yes or no; systemd ignores the line; did you mean "true"?`},
		"time span":                    {"svc.service", serve + "RestartSec=30 secs\n", "RestartSec=30 secs: want a time span"},
		"size":                         {"svc.service", serve + "MemoryMax=512MB\n", "MemoryMax=512MB: want a size"},
		"octal":                        {"svc.service", serve + "UMask=0999\n", "UMask=0999: want a mode"},
		"signal":                       {"svc.service", serve + "KillSignal=SIGTREM\n", `did you mean "SIGTERM"?`},
		"limit":                        {"svc.service", serve + "LimitNOFILE=lots\n", "LimitNOFILE=lots: want a limit"},
		"environment":                  {"svc.service", serve + "Environment=A=b c\n", `"c" is not NAME=VALUE`},
		"relative program":             {"svc.service", "[Service]\nExecStart=bin/app\n", `svc.service:2:1: ExecStart=bin/app: "bin/app" is neither an absolute path nor a bare name; systemd does not load the unit`},
		"relative behind prefixes":     {"svc.service", "[Service]\nExecStart=-!!./app\n", `"./app" is neither`},
		"relative in a second command": {"svc.service", "[Service]\nType=oneshot\nExecStart=/bin/true ; bin/app\n", `"bin/app" is neither`},
		"open quote":                   {"svc.service", "[Service]\nExecStart=/bin/sh -c 'x\n", "a quote is not closed"},
		"relative working directory":   {"svc.service", serve + "WorkingDirectory=srv\n", "WorkingDirectory=srv: want an absolute path or ~; systemd does not load the unit"},
		"absolute state directory":     {"svc.service", serve + "StateDirectory=/var/lib/x\n", `"/var/lib/x" is absolute`},
		"no program":                   {"svc.service", "[Service]\nUser=root\n", "svc.service:1:1: the service has no ExecStart="},
		"no [Service]":                 {"svc.service", "[Unit]\nDescription=x\n", "svc.service:1:1: the service has no ExecStart="},
		"two programs":                 {"svc.service", serve + "ExecStart=/bin/false\n", "svc.service:3:1: 2 programs in ExecStart="},
		"oneshot that restarts":        {"svc.service", serve + "Type=oneshot\nRestart=always\n", "svc.service:4:1: Restart=always with Type=oneshot"},
		"dbus without a name":          {"svc.service", serve + "Type=dbus\n", "Type=dbus without BusName="},

		"header without a bracket":  {"svc.service", "[Service\nExecStart=/bin/true\n", `svc.service:1:1: the section header "[Service" has no "]"`},
		"section of another kind":   {"svc.service", serve + "[Timer]\nOnCalendar=daily\n", "svc.service:3:1: section [Timer] in a .service unit"},
		"section in small letters":  {"svc.service", serve + "[install]\nWantedBy=multi-user.target\n", "svc.service:3:1: unknown section [install]: systemd ignores everything in it; did you mean [Install]?"},
		"section with a no-break":   {"svc.service", serve + "[Install\u00a0]\nWantedBy=multi-user.target\n", `unknown section [Install\u00a0]: systemd ignores everything in it; did you mean [Install]?`},
		"no-break space before key": {"svc.service", serve + "[Install]\n\u00a0WantedBy=multi-user.target\n", `svc.service:4:1: unknown key \u00a0WantedBy= in [Install]: systemd ignores the line, and the unit is not enabled by it; did you mean WantedBy=?`},
		"key in small letters":      {"svc.service", serve + "[Install]\nwantedBy=multi-user.target\n", "did you mean WantedBy=?"},
		"zero-width space":          {"svc.service", serve + "[Install]\n\u200bWantedBy=multi-user.target\n", `unknown key \u200bWantedBy=`},
		"header within a command":   {"svc.service", "[Service]\nExecStart=/bin/true \\\n[Install]\nWantedBy=multi-user.target\n", "svc.service:4:1: unknown key WantedBy= in [Service]: no systemd up to 257 reads it; it is a key of [Install], and the unit is not enabled by it here"},
		"required in [Unit]":        {"svc.service", "[Unit]\nRequiredBy=x.service\n" + serve, "unknown key RequiredBy= in [Unit]: no systemd up to 257 reads it; it is a key of [Install]"},
		"alias in a timer":          {"svc.timer", "[Timer]\nOnCalendar=daily\nAlias=x.timer\n", "unknown key Alias= in [Timer]: no systemd up to 257 reads it; it is a key of [Install]"},
		"line without equals":       {"svc.service", serve + "[Install]\nWantedBy multi-user.target\n", `"WantedBy multi-user.target" is neither a section nor KEY=VALUE`},
		"key before a section":      {"svc.service", "WantedBy=multi-user.target\n" + serve, "is before the first section"},
		"not UTF-8":                 {"svc.service", serve + "Environment=A=\xff\n", "is not UTF-8: systemd does not load the unit"},
		"target without its ending": {"svc.service", serve + "[Install]\nWantedBy=multi-user\n", `WantedBy=multi-user: "multi-user" is no name of a unit: want an ending as .service or .target; systemd does not enable the unit`},
		"dependency without ending": {"svc.service", "[Unit]\nAfter=network\n" + serve, `After=network: "network" is no name of a unit`},

		"calendar":                {"svc.timer", "[Timer]\nOnCalendar=dayly\n", `svc.timer:2:1: OnCalendar=dayly: it is no time that systemd's calendar reads (systemd-analyze calendar 'dayly'); systemd ignores the line; did you mean "daily"?`},
		"crontab":                 {"svc.timer", "[Timer]\nOnCalendar=0 3 * * *\n", "is no time that systemd's calendar reads"},
		"timer without a time":    {"svc.timer", "[Timer]\nPersistent=yes\n", "the timer has no OnCalendar="},
		"socket without address":  {"svc.socket", "[Socket]\nAccept=no\n", "the socket has no ListenStream="},
		"socket by a name":        {"svc.socket", "[Socket]\nListenStream=localhost:80\n", "ListenStream=localhost:80: want a port"},
		"mount of another name":   {"srv-x.mount", "[Mount]\nWhat=/dev/sdb1\nWhere=/srv/y\n", "Where=/srv/y belongs in srv-y.mount, not in srv-x.mount"},
		"container without image": {"web.container", "[Container]\nExec=x\n", "[Container] has no Image= or Rootfs=: podman makes no unit of the file"},
		"quadlet's slip":          {"web.container", "[Container]\nImage=x\n[Servce]\nRestart=always\n", "unknown section [Servce]: podman ignores everything in it; did you mean [Service]?"},

		"key that nobody declares":    {"svc.service", serve + "EnvironmentFile=/run/keys/kk\n", "svc.service:3:1: EnvironmentFile= reads /run/keys/kk, and no service of this repo has a key there"},
		"key with a hint":             {"svc.service", serve + "EnvironmentFile=/run/keys/tokn\n", "did you mean /run/keys/token?"},
		"credential":                  {"svc.service", serve + "LoadCredential=x:/run/keys/kk\n", "reads /run/keys/kk"},
		"argument":                    {"svc.service", "[Service]\nExecStart=/bin/app --key=/run/keys/kk -v\n", "reads /run/keys/kk"},
		"key in a drop-in":            {"nginx.service.d/x.conf", "[Service]\nEnvironmentFile=/run/keys/kk\n", "nginx.service.d/x.conf:2:1: EnvironmentFile= reads /run/keys/kk"},
		"second program by a drop-in": {"svc.service.d/x.conf", "[Service]\nExecStart=/bin/false\n", "svc.service.d/x.conf:2:1: 2 programs in ExecStart="},
	} {
		t.Run(name, func(t *testing.T) {
			m := small("keys: [token]\n", map[string]string{"services/svc/" + c.file: c.text, "secrets/token.age": "x"})
			_, err := loader().Load(t.Context(), m)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Load = %v\nwant in it: %s", err, c.want)
			}
		})
	}
}

// What a host may have, or a newer systemd know, is a warning.
func TestUnitsThatAreWarnedOf(t *testing.T) {
	for name, c := range map[string]struct {
		service, file, text, want string
	}{
		"unknown key":             {"", "svc.service", serve + "Restrat=always\n", "svc.service:3:1: warning: unknown key Restrat= in [Service]: no systemd up to 257 reads it; did you mean Restart=?"},
		"key of another section":  {"", "svc.service", "[Unit]\nRestart=always\n" + serve, "unknown key Restart= in [Unit]: no systemd up to 257 reads it; it is a key of [Service]"},
		"unknown section":         {"", "svc.service", serve + "[Telemetry]\na=b\n", "warning: unknown section [Telemetry]"},
		"stray line":              {"", "svc.service", serve + "hello\n", `warning: "hello" is neither`},
		"user":                    {"", "svc.service", serve + "User=withinbot\n", "svc.service:3:1: warning: User=withinbot: no service of this repo makes it"},
		"group":                   {"user: bot\n", "svc.service", serve + "User=bot\nGroup=bots\n", "Group=bots: no service of this repo makes it"},
		"target":                  {"", "svc.service", serve + "[Install]\nWantedBy=mutli-user.target\n", "WantedBy=mutli-user.target: no unit of this repo or of systemd has that name; if the host has none, the unit is never started by it; did you mean multi-user.target?"},
		"install of nothing":      {"", "svc.service", serve + "[Install]\nWantedBy=\n", "svc.service:3:1: warning: [Install] names no unit: this one is neither enabled nor started"},
		"install that is emptied": {"", "svc.service", serve + "[Install]\nWantedBy=multi-user.target\nWantedBy=\n", "svc.service:3:1: warning: [Install] names no unit"},
		"empty install":           {"", "svc.service", serve + "[Install]\n", "svc.service:3:1: warning: [Install] names no unit"},
		"also":                    {"", "svc.service", serve + "[Install]\nAlso=svc.socket\n", "Also=svc.socket: no unit"},
		"reload":                  {"units: { svc.service: { on_change: reload } }\n", "svc.service", serve, "service.yaml:1:36: warning: svc.service has no ExecReload="},
		"reload by a key":         {"keys: { k: { reload: [svc.service] } }\n", "svc.service", serve, "service.yaml:1:9: warning: svc.service has no ExecReload="},
		"timer of nothing":        {"", "job.timer", "[Timer]\nOnCalendar=daily\n", "job.timer:1:1: warning: job.timer starts job.service, and no unit of this repo"},
		"timer with Unit=":        {"", "job.timer", "[Timer]\nOnCalendar=daily\nUnit=scv.service\n", "job.timer:3:1: warning: job.timer starts scv.service, and no unit of this repo or of systemd has that name; did you mean svc.service?"},
		"quadlet's key":           {"", "web.container", "[Container]\nImage=x\nPublishPorts=80\n", "unknown key PublishPorts= in [Container]: podman 5 makes no unit of a file that has it; did you mean PublishPort=?"},
	} {
		t.Run(name, func(t *testing.T) {
			f := mustLoad(t, small(c.service, map[string]string{"services/svc/" + c.file: c.text}))
			if len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0].Error(), c.want) {
				t.Errorf("warnings %v\nwant one: %s", f.Warnings, c.want)
			}
		})
	}
}

func TestServiceThatNoHostUses(t *testing.T) {
	f := mustLoad(t, small("", map[string]string{"services/other/other.service": serve}))
	if len(f.Warnings) != 1 || f.Warnings[0].Error() != "services/other: warning: no host uses this service" {
		t.Errorf("warnings %v, want one of services/other", f.Warnings)
	}
}

// What is unusual and right is not mentioned.
func TestUnitsThatAreRight(t *testing.T) {
	m := small(`user: { name: bot, extra_groups: [video] }
keys: { k: {}, cert: { reload: [web.service] } }
units: { "inst@.service": { instances: [a] } }
`, map[string]string{
		"secrets/cert.age":                     "x",
		"services/svc/svc.service":             "[Unit]\nDescription=100% of it\nAfter=network-online.target dev-sda1.device\nRequiresMountsFor=/srv\n" + serve + "User=bot\nGroup=bot\nEnvironmentFile=/run/keys/k\nEnvironmentFile=-/run/keys/optional\nLoadCredential=k:/run/keys/k\nX-Mine=1\n[X-Ours]\nanything\n[Install]\nWantedBy=multi-user.target getty@tty1.service\nAlias=svc2.service\n",
		"services/svc/svc.service.d/a.conf":    "[Service]\nExecStart=\nExecStart=!/bin/sh -c \"sleep %%d; exec app\" ; \nTimeoutStopSec=infinity\nMemoryMax=50%\nCPUQuota=150%\n",
		"services/svc/inst@.service":           "[Service]\nExecStart=/opt/bellhop/svc/bin/app --name %i --key /run/keys/%i\nUser=%i\nWorkingDirectory=-/srv/%I\n[Install]\nWantedBy=svc2.service\nDefaultInstance=a\n",
		"services/svc/inst@a.service.d/b.conf": "[Service]\nNice=-5\n",
		"services/svc/only.target":             "[Unit]\nDescription=a group\nRequires=svc.service\n[Install]\nRequiredBy=multi-user.target\n",
		"services/svc/web.service":             "[Service]\nType=notify-reload\nExecStart=/bin/true\nDynamicUser=yes\nUser=web\nProtectSystem=strict\nPrivateTmp=disconnected\nStandardOutput=append:/var/log/x\nSystemCallFilter=@system-service\n",
		"services/svc/nginx.service.d/c.conf":  "[Service]\nUser=www\nExecReload=\nLimitNOFILE=1024:infinity\n",
		"services/svc/up.socket":               "[Socket]\nListenStream=[::1]:80\nListenStream=/run/x.sock\nSocketMode=0660\nSocketUser=bot\nService=svc.service\n[Install]\nWantedBy=sockets.target\n",
		"services/svc/late.timer":              "[Timer]\nOnCalendar=Mon..Fri *-*-* 03:00:00 Europe/Berlin\nOnBootSec=5min 20s\nRandomizedDelaySec=1h\nUnit=inst@a.service\n",
		"services/svc/srv-data.mount":          "[Mount]\nWhat=/dev/disk/by-label/data\nWhere=/srv/data\nType=ext4\nOptions=noatime\n",
		"services/svc/job.service":             "[Service]\nType=oneshot\nExecStart=/bin/true\nExecStart=-/bin/false\nExecStartPre=+/bin/true\nUser=1000\n",
	})
	if f := mustLoad(t, m); len(f.Warnings) > 0 {
		t.Errorf("warnings %v, want none", f.Warnings)
	}
}

// A unit that is a template is looked at as each host gets it.
func TestUnitTemplatesAreChecked(t *testing.T) {
	unit := "[Service]\nExecStart=/bin/true\nRestart={{ .Settings.restart }}\n"
	m := small("settings: { restart: always }\n", map[string]string{"services/svc/svc.service": "", "services/svc/svc.service.tmpl": unit})
	if f := mustLoad(t, m); len(f.Warnings) > 0 {
		t.Errorf("warnings %v, want none", f.Warnings)
	}
	m = small("settings: { restart: allways }\n", map[string]string{"services/svc/svc.service": "", "services/svc/svc.service.tmpl": unit})
	const want = `services/svc/svc.service.tmpl:3:1: service svc: Restart=allways: want no`
	if _, err := loader().Load(t.Context(), m); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Load = %v, want %s", err, want)
	}
}

// Where the systemd of a host is known, what it would ignore is told by line.
func TestTooNew(t *testing.T) {
	b := mustBundle(t, mustLoad(t, small("", map[string]string{
		"services/svc/svc.service": serve + "OpenFile=/etc/x\nType=notify-reload\nFutureKey=1\n",
	})), "a")
	for version, want := range map[int]string{
		0:   "",
		252: "services/svc/svc.service:3: OpenFile= needs systemd 253; the host has systemd 252, which ignores the line; with systemd 253 or newer there: bellhop deploy --retry",
		257: "services/svc/svc.service:5: unknown key FutureKey= in [Service]: no systemd up to 257 reads it; the host has systemd 257, which ignores the line: correct it, or take it out",
		258: "",
	} {
		if got := b.TooNew(version)["svc"]; got != want {
			t.Errorf("TooNew(%d) = %q, want %q", version, got, want)
		}
	}
}

// tarball is a tar.gz of files and links, by path; what begins with "->" is a link.
func tarball(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if target, ok := strings.CutPrefix(files[name], "->"); ok {
			h.Typeflag, h.Linkname, h.Size, files[name] = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	z.Close()
	return b.String()
}

// A program that the service's own package does not have is refused, where the package is in the repo.
func TestProgramsOfThePackage(t *testing.T) {
	archive := tarball(t, map[string]string{"app-1.0/bin/app": "x", "app-1.0/libexec": "->elsewhere", "app-1.0/share/readme": "x"})
	for name, c := range map[string]struct{ service, unit, want string }{
		"there":            {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=/opt/bellhop/svc/bin/app\n", ""},
		"there, prefixes":  {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=!!/opt/bellhop/svc/bin/app -x\n", ""},
		"behind a link":    {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=/opt/bellhop/svc/libexec/app\n", ""},
		"may be missing":   {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=/bin/true\nExecStartPre=-/opt/bellhop/svc/pre\n", ""},
		"specifier":        {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=/opt/bellhop/svc/bin/%p\n", ""},
		"another service":  {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=/opt/bellhop/other/bin/app\n", ""},
		"missing":          {"package: { file: app.tar.gz, strip: 1 }\n", "ExecStart=/opt/bellhop/svc/bin/ap\n", "svc.service:2:1: ExecStart=/opt/bellhop/svc/bin/ap: the package services/svc/app.tar.gz has no bin/ap; did you mean bin/app?"},
		"strip forgotten":  {"package: app.tar.gz\n", "ExecStart=/opt/bellhop/svc/bin/app\n", "has no bin/app; did you mean app-1.0/bin/app?"},
		"bare name":        {"package: app.tar.gz\n", "ExecStart=app\n", "warning: ExecStart=app: systemd looks for it in the host's own folders"},
		"bare name needed": {"package: app.tar.gz\nneeds: [app]\n", "ExecStart=app\n", ""},
		"no package":       {"", "ExecStart=app\n", ""},
	} {
		m := small(c.service, map[string]string{"services/svc/svc.service": "[Service]\n" + c.unit})
		if c.service != "" {
			m["services/svc/app.tar.gz"] = file(archive)
		}
		f, err := loader().Load(t.Context(), m)
		said := ""
		switch {
		case err != nil:
			said = err.Error()
		case len(f.Warnings) > 0:
			said = f.Warnings[0].Error()
		}
		if c.want == "" && said != "" || !strings.Contains(said, c.want) {
			t.Errorf("%s: %q, want %q", name, said, c.want)
		}
	}
}
