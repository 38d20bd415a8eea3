package main

import "github.com/spf13/cobra"

// verbs lists what bellhop can do, by the groups of --help.
func verbs(e *Env) []*cobra.Command {
	return []*cobra.Command{
		// in the config repo
		initCmd(e), importCmd(e), checkCmd(e), schemaCmd(e), hookCmd(e), demoCmd(e),

		// secrets
		secretCmd(e), keyCmd(e),

		// the fleet
		planCmd(e), deployCmd(e), rollbackCmd(e), pauseCmd(e), resumeCmd(e), cancelCmd(e), statusCmd(e), historyCmd(e), driftCmd(e),

		// hosts
		hostCmd(e), adoptCmd(e), imagesCmd(e), sshCmd(e), execCmd(e), logsCmd(e), restartCmd(e), rebootCmd(e), serviceCmd(e),

		// the server
		serveCmd(e), ringCmd(e), webhookCmd(e), notifyCmd(e), pasteCmd(e), doctorCmd(e), healthcheckCmd(e),
	}
}
