import ArgumentParser
import Groups
import Linux

/// `aurora attach`: joins this terminal to a group's program.
struct AttachCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach", abstract: "Join this terminal to the program of a running group.")

    @Argument(help: "The group's name.") var name: String

    func run() throws {
        let directory = try CommandContext.runningGroup(name)
        let configuration = try directory.configuration()
        let socket: SharedDescriptor
        do throws(SystemError) {
            socket = SharedDescriptor(try Socket.connect(unix: directory.attachSocketPath))
        } catch {
            throw GroupError(.notRunning, "Cannot attach to group \(name): \(error)")
        }
        let takesInput = configuration.wantsInput || configuration.terminal
        let outcome = try StdioClient(socket, StdioClient.Options(forwardsInput: takesInput, terminal: configuration.terminal)).run()
        try outcome.finish(lost: "The connection to group \(name) was lost; see: aurora ps -a")
    }
}
