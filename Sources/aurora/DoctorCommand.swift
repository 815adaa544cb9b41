import ArgumentParser
import Groups
import Linux

/// `aurora doctor`: what this host offers and lacks.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check what this host offers and lacks, with the remedy for each.")

    @Option(parsing: .unconditional, help: "How to write the findings: table or json.")
    var format = ListFormat.table

    func run() throws {
        let findings = HostChecks.all()
        if format == .json {
            print(try CommandContext.json(findings))
        } else {
            for finding in findings {
                print("\(finding.verdict.rawValue.padded(5)) \(finding.what): \(finding.found.visibleLine)")
                if let remedy = finding.remedy { print("      -> \(remedy.visibleLine)") }
            }
        }
        if findings.contains(where: { $0.verdict == .fail }) { throw ExitCode(ExitCodes.failure) }
    }
}

extension String {
    fileprivate func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
