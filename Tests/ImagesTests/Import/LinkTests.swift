import CLinux
import Testing

@testable import Images

/// Layers with links of all kinds: other engines unpack them, confined to the root, and so does Aurora.
@Suite(.enabled(if: ForeignImage.isRoot, "SKIPPED: only root can keep the owners of an image's files")) struct LinkTests {
    private func target(_ foreign: ForeignImage, _ file: String) throws -> String {
        String(decoding: try foreign.run(["readlink", "\(foreign.tree)/\(file)"]).dropLast(), as: UTF8.self)
    }

    /// Links that climb above the root are kept as they are; what is put behind them lies where a chroot would have it.
    @Test func linksThatClimbAreKept() throws {
        let foreign = try ForeignImage()
        var (below, above) = (TarBuilder(), TarBuilder())
        let climbing = "../../../../../../../../../../etc/ssl/certs"
        below.add("opt/java/lib/security/cacerts", type: "2", link: climbing)
        below.add("up", type: "2", link: "..")
        above.add("opt/java/lib/security/cacerts/own.pem", "certificate")
        above.add("up/up/inside", "x")
        try foreign.write([below, above])
        _ = try foreign.load()
        #expect(try target(foreign, "opt/java/lib/security/cacerts") == climbing)
        #expect(try foreign.text("etc/ssl/certs/own.pem") == "certificate")
        #expect(try foreign.text("inside") == "x")
        #expect(!Files.exists("\(foreign.fixture.path)/inside") && !Files.exists("/etc/ssl/certs/own.pem"))
    }

    /// A link whose target no layer has: the target is made, for files below it and for the working directory.
    @Test func targetsOfDanglingLinksAreMade() throws {
        let foreign = try ForeignImage()
        var (first, second, third) = (TarBuilder(), TarBuilder(), TarBuilder())
        first.add("var/", type: "5", mode: 0o755)
        second.add("var/log", type: "2", link: "/data/var/log")
        second.add("chain", type: "2", link: "chain2/deeper")
        second.add("chain2", type: "2", link: "../../nowhere/yet")
        third.add("var/log/app.log", "line")
        third.add("chain/.wh.nothing", "")
        third.add("chain/file", "end")
        try foreign.write([first, second, third], config: #"{"WorkingDir":"/var/log/inner/../place"}"#)
        _ = try foreign.load()
        #expect(try foreign.text("data/var/log/app.log") == "line")
        #expect(try foreign.text("nowhere/yet/deeper/file") == "end")
        #expect(try target(foreign, "var/log") == "/data/var/log")
        #expect(foreign.exists("data/var/log/place"))
        #expect(try foreign.status("data/var/log").st_mode == 0o40755)
    }

    /// Where a circle is on the way, the message says what.
    @Test(arguments: [
        [("a", "b"), ("b", "a")], [("a", "a/x")], [("a", "missing/../b"), ("b", "/a")],
    ])
    func circlesAreNamed(links: [(String, String)]) throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        for (name, target) in links { tar.add(name, type: "2", link: target) }
        tar.add("a/file", "x")
        try foreign.write([tar])
        #expect { try foreign.load() } throws: { "\($0)".contains("Too many levels of symbolic links") && "\($0)".contains("layer 1") }
        #expect(try foreign.fixture.names("images").isEmpty)
    }

    @Test func hardLinksAndWhiteoutsOfLinks() throws {
        let foreign = try ForeignImage()
        var (below, above) = (TarBuilder(), TarBuilder())
        below.add("real/file", "below")
        below.add("link", type: "2", link: "real/file")
        below.add("gone", type: "2", link: "real")
        below.add("door", type: "2", link: "real")
        below.add("dangling", type: "2", link: "/nowhere")
        // A hard link to a symbolic link is one more name of the link; through a link of a directory it finds the file.
        above.add("same", type: "1", link: "link")
        above.add("dangling2", type: "1", link: "dangling")
        above.add("through", type: "1", link: "door/file")
        // The link goes, what it leads to stays.
        above.add(".wh.gone", "")
        // The directory that the link leads to is emptied.
        above.add("door/.wh..wh..opq", "")
        above.add("door/new", "above")
        // A file takes the place of a link, and is not written through it.
        above.add("link", "file now")
        try foreign.write([below, above])
        #expect { try foreign.load() } throws: { "\($0)".contains("link \"through\" to its target") }
        below.add("other/file", "below")
        below.add("door2", type: "2", link: "other")
        above = TarBuilder()
        above.add("same", type: "1", link: "link")
        above.add("dangling2", type: "1", link: "dangling")
        above.add("through", type: "1", link: "door2/file")
        above.add(".wh.gone", "")
        above.add("door/.wh..wh..opq", "")
        above.add("door/new", "above")
        above.add("link", "file now")
        try foreign.write([below, above])
        _ = try foreign.load()
        #expect(try target(foreign, "same") == "real/file" && target(foreign, "dangling2") == "/nowhere")
        #expect(try foreign.text("through") == "below" && foreign.text("other/file") == "below")
        #expect(!foreign.exists("gone") && !foreign.exists("real/file") && !foreign.exists("nowhere"))
        #expect(try foreign.text("real/new") == "above" && foreign.text("link") == "file now")
    }

    /// One path several times in one layer, with kinds that exclude each other: the last one counts.
    @Test func theLastOfAPathCounts() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("x/", type: "5", mode: 0o700)
        tar.add("x/old", "gone with the directory")
        tar.add("x", "file")
        tar.add("x", type: "2", link: "y")
        tar.add("x/", type: "5", mode: 0o750, modified: 77)
        tar.add("x/new", "here")
        tar.add("y", "first")
        tar.add("y", "second", mode: 0o600)
        tar.add("pipe", type: "6")
        tar.add("pipe", "no pipe")
        try foreign.write([tar])
        _ = try foreign.load()
        #expect(try foreign.text("x/new") == "here" && !foreign.exists("x/old"))
        let x = try foreign.status("x")
        #expect(x.st_mode == 0o40750 && x.st_mtim.tv_sec == 77)
        #expect(try foreign.text("y") == "second" && foreign.status("y").st_mode == 0o100600)
        #expect(try foreign.text("pipe") == "no pipe")
    }

    @Test func globalHeadersAndNumbersBeyondOctal() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.extend([("comment", Array("a commit".utf8)), ("gid", Array("4294967294".utf8))], type: "g")
        // GNU's base 256: the first bit is set, the rest is the number.
        tar.add("big", Array("x".utf8)) { header in
            header.replaceSubrange(108..<116, with: [0x80, 0, 0, 0, 0x3b, 0x9e, 0x73, 0x80])
            header.replaceSubrange(136..<148, with: [UInt8](repeating: 0xff, count: 11) + [0xf6])
        }
        try foreign.write([tar])
        _ = try foreign.load()
        let big = try foreign.status("big")
        #expect(big.st_uid == 0x3b9e_7380 && big.st_gid == 4_294_967_294 && big.st_mtim.tv_sec == -10)
    }

    /// Directories that no layer names can be entered by everybody, whatever the mask of this process is.
    @Test func impliedDirectoriesAreOpen() throws {
        let foreign = try ForeignImage()
        var tar = TarBuilder()
        tar.add("a/b/c", "x")
        try foreign.write([tar])
        _ = try foreign.load()
        for path in ["", "a", "a/b"] { #expect(try foreign.status(path).st_mode == 0o40755, "/\(path)") }
    }

    /// Sparse files in all forms that GNU tar has.
    @Test(arguments: [
        ["--format=gnu"], ["--format=pax", "--sparse-version=0.0"], ["--format=pax", "--sparse-version=0.1"], ["--format=pax"],
    ])
    func sparseFiles(options: [String]) throws {
        let foreign = try ForeignImage()
        let make = """
            cd "$1" && mkdir s && truncate -s 900K s/hole && printf x | dd of=s/file bs=1 seek=70000 conv=notrunc status=none
            for i in $(seq 1 40); do printf "piece $i" | dd of=s/file bs=1 seek=$((i * 20000)) conv=notrunc status=none; done
            truncate -s 1000001 s/file && echo plain >s/plain
            """
        let log = "\(foreign.fixture.path)/make.log"
        try #require(try ChildProcess(command: ["sh", "-c", make, "sh", foreign.fixture.path], log: log).run() == .exited(0))
        let tar = try foreign.run(["tar", "-C", "\(foreign.fixture.path)/s", "-S", "-c"] + options + ["file", "hole", "plain"])
        try foreign.index([try foreign.image([try foreign.layer(tar)])])
        _ = try foreign.load()
        for name in ["file", "hole", "plain"] {
            #expect(try foreign.run(["cmp", "\(foreign.fixture.path)/s/\(name)", "\(foreign.tree)/\(name)"]).isEmpty, "\(name)")
        }
        #expect(try foreign.status("file").st_blocks * 512 < 500_000)
    }

    /// Attributes that ext4 has no room for, or that mean nothing elsewhere, are counted and not kept in memory.
    @Test func attributesAreBounded() throws {
        var tar = TarBuilder()
        let value = [UInt8](repeating: 1, count: 3000)
        tar.extend([
            ("SCHILY.xattr.security.selinux", Array("label".utf8)), ("SCHILY.xattr.user.a", value), ("SCHILY.xattr.user.b", value),
            ("SCHILY.xattr.user.c", [7]),
        ])
        tar.add("file", "x")
        var reader = TarReader(Bytes(bytes: tar.finished))
        let entry = try #require(try reader.next())
        #expect(entry.attributes.kept.map { String(decoding: $0.name, as: UTF8.self) } == ["user.a", "user.c"])
        #expect(entry.attributes.skipped == 2 && reader.extensionBytes > 6000)
    }
}

/// An archive in memory.
struct Bytes: ByteSource {
    let bytes: [UInt8]
    var count: Int { bytes.count }
    func read(at offset: Int, count: Int) throws(ImportRefusal) -> [UInt8] {
        guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else { throw ImportRefusal("outside") }
        return Array(bytes[offset..<(offset + count)])
    }
}
