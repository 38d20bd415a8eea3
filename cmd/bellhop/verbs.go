package main

import "github.com/spf13/cobra"

// verbs lists what bellhop can do.
func (e *Env) verbs() []*cobra.Command {
	return []*cobra.Command{
		e.initCmd(), e.hookCmd(), e.checkCmd(), e.schemaCmd(),
		e.secretCmd(), e.keyCmd(), e.hostCmd(), e.planCmd(), e.deployCmd(), e.statusCmd(), e.historyCmd(), e.rebootCmd(), e.serveCmd(), e.ringCmd(), e.webhookCmd(), e.healthcheckCmd(), e.pasteCmd(), e.doctorCmd(), e.demoCmd(), e.sshCmd(), e.execCmd(), e.logsCmd(),
	}
}
