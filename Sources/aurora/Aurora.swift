import ArgumentParser
import CLinux
import Groups
import Linux

/// The `aurora` command.
@main
struct Aurora: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "aurora", abstract: "A single level store for unmodified Linux applications.",
        discussion: """
            Kernel, images, groups and the store lie in $AURORA_HOME (else /var/lib/aurora, or ~/.local/share/aurora), sockets of
            running groups in $AURORA_RUNTIME (else /run/aurora, or $XDG_RUNTIME_DIR/aurora).
            """,
        version: "0.1.0-dev",
        groupedSubcommands: [
            CommandGroup(
                name: "Groups:",
                subcommands: [
                    RunCommand.self, ExecCommand.self, AttachCommand.self, PsCommand.self, LogsCommand.self, StopCommand.self,
                    EventsCommand.self, KillCommand.self, PauseCommand.self, ResumeCommand.self, RmCommand.self, InspectCommand.self,
                ]),
            CommandGroup(
                name: "Checkpoints:",
                subcommands: [
                    PersistCommand.self, CheckpointCommand.self, HistoryCommand.self, RestoreCommand.self, RollbackCommand.self,
                    CloneCommand.self, DetachCommand.self, TopCommand.self,
                ]),
            CommandGroup(name: "Functions:", subcommands: [ServeCommand.self, FnCommand.self]),
            CommandGroup(name: "Images and the store:", subcommands: [ImageCommand.self, StoreCommand.self, GcCommand.self]),
            CommandGroup(
                name: "Host:",
                subcommands: [
                    DoctorCommand.self, VMMCommand.self, InstanceHostCommand.self, BuildFunctionCommand.self, BootCommand.self,
                    MachineCommand.self,
                ]),
        ])

    /// Runs a command; its failures are told as `error: what: why`, with the exit code of container tools.
    static func main() {
        // A file that may not grow is an error that says so, not a signal that ends the process without a word.
        clinux_ignore_signal(SIGXFSZ)
        _ = clinux_file_limit_raise()
        var failureCode = ExitCodes.failure
        do {
            if let launched = VMMCommand.launched(CommandLine.arguments) {
                try CommandContext.data.checkRuntime()
                return try VMMCommand.run(group: launched.group, restore: launched.restore)
            }
            var command = try parseAsRoot(Array(OwnProcess.arguments.dropFirst()))
            // What looks at the host tells of it instead.
            if !(command is DoctorCommand) { try CommandContext.secure() }
            failureCode = type(of: command) is any EngineCommand.Type ? ExitCodes.engine : ExitCodes.failure
            try command.run()
        } catch let error as GroupError {
            Terminal.writeError("error: \(error)\n")
            exit(withError: ExitCode(failureCode))
        } catch  where exitCode(for: error) == .validationFailure {
            // The parser's own spelling is "Error:".
            let text = fullMessage(for: error)
            Terminal.writeError((text.hasPrefix("Error: ") ? "error: \(text.dropFirst(7))" : text) + "\n")
            exit(withError: ExitCode.validationFailure)
        } catch  where isOfArgumentParser(error) {
            exit(withError: error)
        } catch {
            Terminal.writeError("error: \(error)\n")
            exit(withError: ExitCode(failureCode))
        }
    }

    private static func isOfArgumentParser(_ error: any Error) -> Bool {
        let code = exitCode(for: error)
        // Anything the parser does not know is an ordinary failure to it, and is ours to tell.
        return code == .success || code == .validationFailure || error is ExitCode || error is CleanExit
    }
}
