import Foundation
import Testing

private let canMakeImages = geteuid() == 0 && FileManager.default.isExecutableFile(atPath: "/bin/busybox")

/// An image made by hand in the format of `docker save`, run and committed.
@Suite(
    .enabled(if: Command.obstacle == nil, "guests cannot be run here"),
    .enabled(if: canMakeImages, "SKIPPED: needs root and busybox-static"), .serialized, .timeLimit(.minutes(5)))
struct ImageGuestTests {
    let aurora: Command
    private let name = "test-\(UUID().uuidString.prefix(8).lowercased())"

    init() throws { aurora = try Command() }

    private static let script = #"""
        set -eu
        cd "$1"
        mkdir -p l/bin l/etc l/srv
        cp /bin/busybox l/bin/busybox
        for name in sh id cat pwd echo sleep touch; do ln -s busybox l/bin/$name; done
        echo 'app:x:1000:1000::/srv:/bin/sh' > l/etc/passwd
        chown 1000:1000 l/srv
        tar -C l -cf layer.tar .
        digest=$(sha256sum layer.tar | cut -c1-64)
        printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/sh","-c"],"Cmd":["id -u; pwd; echo $WORD; exit 7"],
            "Env":["WORD=said"],"User":"app","WorkingDir":"/srv"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$digest" > c
        config=$(sha256sum c | cut -c1-64)
        mv c "$config.json"
        printf '[{"Config":"%s.json","RepoTags":["t:1"],"Layers":["layer.tar"]}]' "$config" > manifest.json
        tar -cf image.tar manifest.json "$config.json" layer.tar
        """#

    @Test func importedImagesRunAndGroupsBecomeImages() throws {
        let work = URL(filePath: aurora.home).deletingLastPathComponent().appending(path: "work").path
        try FileManager.default.createDirectory(atPath: work, withIntermediateDirectories: true)
        let process = try Process.run(URL(filePath: "/bin/sh"), arguments: ["-c", Self.script, "sh", work])
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        let committed = "\(name)-committed"
        defer { for image in [name, committed] { _ = try? aurora.run("image", "rm", "--force", image) } }
        let imported = try aurora.run("image", "import", "--size", "512M", "docker-archive:\(work)/image.tar:t:1", name)
        try #require(imported.code == 0, "\(imported.error)")

        let run = try aurora.run("run", "--rm", "--image", name)
        #expect(run.output == "1000\n/srv\nsaid\n" && run.code == 7, "\(run.error)")
        let other = try aurora.run(
            "run", "--rm", "--image", name, "-e", "WORD=other", "-u", "0", "-w", "/", "--", "sh", "-c", "id -u; pwd; echo $WORD")
        #expect(other.output == "0\n/\nother\n" && other.code == 0, "\(other.error)")

        let persisted = try aurora.run(
            "persist", "-d", "--name", "writer", "--period", "off", "--image", name, "--", "sh", "-c",
            "echo kept > note; echo done; sleep 600")
        #expect(persisted.code == 0, "\(persisted.error)")
        for _ in 0..<6000 where try aurora.run("logs", "writer").output.isEmpty { usleep(50_000) }
        let commit = try aurora.run("image", "commit", "writer", committed)
        #expect(commit.code == 0, "\(commit.error)")
        let kept = try aurora.run("run", "--rm", "--image", committed, "--", "cat", "note")
        #expect(kept.output == "kept\n", "\(kept.error)")
        #expect(try aurora.run("image", "rm", name).error.contains("used by writer"))
        #expect(try aurora.run("image", "ls").output.contains("commit"))
    }
}
