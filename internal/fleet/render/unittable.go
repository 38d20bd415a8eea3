package render

// A UnitRow is one line of the table of units: what a service folder has, or what became of a unit,
// and what bellhop does.
type UnitRow struct {
	Case string // Markdown
	Rule string
	By   string // the function that decides it
}

// UnitTable is the table of units as docs/repo.md prints it; a test holds the two against each other.
// What depends on the host's systemd is decided by bundle.DecideUnit, for the plan and on the host.
var UnitTable = []UnitRow{
	{"unit with `[Install]`",
		"enabled and started", "render.Rendering.decide"},
	{"unit without `[Install]`",
		"installed; restarted if it runs", "render.Rendering.decide"},
	{"`x.timer`, `.socket` or `.path` beside `x.service`",
		"the activator is enabled and started, the service is left to it", "render.Rendering.plan"},
	{"`foo@.service`",
		"`units: { \"foo@.service\": { instances: [a, b] } }`", "render.instances"},
	{"`nginx.service.d/bellhop.conf`",
		"a drop-in for a unit that is not ours; enabled and started only if `units:` names it; undone on leaving", "render.Rendering.decide"},
	{"`*.container *.volume *.network *.kube *.pod *.image *.build`",
		"to `/etc/containers/systemd/`, or with `linger: true` of the service's user to that user's home; the generated unit is treated as ours", "unitfile.Unit.Generated"},
	{"a unit, drop-in, package, key or file of the service changed",
		"its running units restart once; per unit `on_change: reload` or `none`, `watch: [paths]`", "render.Rendering.triggers"},
	{"`Type=oneshot` with `[Install]`, no RemainAfterExit, no activator",
		"run again when it or a file, key or package of its service changed", "bundle.DecideUnit"},
	{"`keys: { tls: { reload: [nginx.service] } }`, or `restart:`",
		"that key does this to these units, and nothing to others", "render.Rendering.triggers"},
	{"a `Condition…=` of the unit file does not hold",
		"not started, with a warning", "health.watching.judge"},
	{"stopped by hand",
		"stays stopped, shown as drift", "bundle.DecideUnit"},
	{"failed, or never ran since boot",
		"started", "bundle.DecideUnit"},
	{"masked on the host",
		"its service is [held back](operations.md#one-bad-service) before anything of it is touched, naming the mask", "plan.Plan.PlanUnits"},
}
