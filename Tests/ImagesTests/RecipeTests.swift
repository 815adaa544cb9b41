import CLinux
import FoundationEssentials
import Testing

@testable import Images

/// The recipe of images of packages, with an archive that exists for the test only.
private struct PretendedArchive {
    static let isPossible: Bool = {
        let files = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/bin/dpkg-deb", "/usr/bin/mmdebstrap", "/usr/sbin/mke2fs"]
        let missing = files.filter { !Files.exists($0) } + (geteuid() == 0 ? [] : ["root"])
        if !missing.isEmpty { print("SKIPPED: tests of the recipe of images: \(missing.joined(separator: ", ")) are missing") }
        return missing.isEmpty
    }()

    let fixture: Fixture
    var tools: String { "\(fixture.path)/tools" }

    /// One package, `manual`: its manual page lies elsewhere, and its script puts a link to it where manual pages are, as Java's do.
    ///
    /// The script is run without a change of the root: there is nothing in it that could run one.
    private static let package = #"""
        set -eu
        mkdir -p "$1/p/DEBIAN" "$1/p/usr/lib/manual" "$1/p/usr/share/man/man1" "$1/p/usr/share/doc/manual" "$1/p/usr/share/locale/de"
        printf 'Package: manual\nVersion: 1.2\nArchitecture: all\nMaintainer: T <t@localhost>\nDescription: a test\n' >"$1/p/DEBIAN/control"
        printf '#!/bin/sh\nset -e\nln -s /usr/lib/manual/own.8 "$DPKG_ROOT/usr/share/man/man8/own.8"\n' >"$1/p/DEBIAN/postinst"
        chmod 755 "$1/p/DEBIAN/postinst"
        for file in lib/manual/own.8 share/man/man1/packaged.1 share/doc/manual/README share/doc/manual/copyright share/locale/de/words; do
            echo text >"$1/p/usr/$file"
        done
        dpkg-deb --root-owner-group --build "$1/p" "$1/manual.deb" >/dev/null
        """#

    /// Takes the options that concern dpkg, and installs the package with the real one.
    private static let bootstrap = #"""
        #!/bin/sh
        set -eu
        touch "$TOOLS/bootstrapped"
        options= hook=
        for argument in "$@"; do
            case "$argument" in
            --dpkgopt=*) options="$options --${argument#--dpkgopt=}" ;;
            --setup-hook=*) hook=${argument#--setup-hook=} ;;
            *.tar) tar=$argument ;;
            esac
        done
        root=$(mktemp -d)
        mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/etc" "$root/usr/bin"
        : >"$root/var/lib/dpkg/status"
        sh -c "$hook" exec "$root"
        set -f
        dpkg --root="$root" --force-script-chrootless --force-not-root --log=/dev/null $options -i "$TOOLS/manual.deb"
        tar -C "$root" -cf "$tar" .
        rm -rf "$root"
        """#

    init() throws {
        fixture = try Fixture()
        try Files.makeDirectory(tools)
        func tool(_ name: String, _ text: String) throws { try Files.write(Array(text.utf8), to: "\(tools)/\(name)", mode: 0o755) }
        try tool("mmdebstrap", Self.bootstrap)
        try tool("apt-get", "#!/bin/sh\necho 'deb http://localhost/debian bookworm main # Debian'\n")
        try tool("apt-config", "#!/bin/sh\n[ \"$1\" != shell ] && [ \"$6\" != shell ] || echo \"lists='$TOOLS/lists/'\"\n")
        try tool(
            "apt-cache",
            """
            #!/bin/sh
            for name in "$@"; do :; done
            case "$name" in
            manual)
                printf 'Package: manual\\nVersions: \\n1.2 (/list)\\n Description Language: \\n\\n'
                printf 'Reverse Depends: \\nReverse Provides: \\n'
                ;;
            virtual)
                printf 'Package: virtual\\nVersions: \\n\\nReverse Depends: \\n  x,virtual\\n'
                printf 'Reverse Provides: \\nmanual 1.2 (= )\\n'
                ;;
            esac
            """)
        try Files.makeDirectory("\(tools)/lists")
        try Files.write([], to: "\(tools)/lists/x_bookworm_InRelease")
        let log = "\(fixture.path)/package.log"
        try #require(try ChildProcess(command: ["sh", "-c", Self.package, "sh", tools], log: log).run() == .exited(0))
    }

    func build(_ packages: String) throws -> Image {
        var files = Recipes.embedded.files
        files["base/real.sh"] = files["base/build-image.sh"]
        files["base/build-image.sh"] = Array(
            "TOOLS='\(tools)'; PATH=$TOOLS:$PATH; export TOOLS PATH\nexec sh \"$(dirname \"$0\")/real.sh\" \"$@\"\n".utf8)
        return try ImageStore(dataPath: fixture.path, recipes: Recipes(files: files)).build(
            try ImageName("a"), packages: try PackageRequest.list(packages), size: try ImageSize("512M"), progress: silent)
    }

    func debugfs(_ image: Image, _ request: String) throws -> String {
        let (output, log) = ("\(fixture.path)/debugfs", "\(fixture.path)/debugfs.log")
        _ = try ChildProcess(command: ["debugfs", "-R", request, image.rootPath], output: output, log: log).run()
        return String(decoding: try Files.read(output, lengthMax: 1 << 20), as: UTF8.self)
    }
}

@Suite(.enabled(if: PretendedArchive.isPossible), .timeLimit(.minutes(5))) struct RecipeTests {
    /// Documentation is left out; where it would be, installation scripts may put their links.
    @Test func scriptsMayLinkWhereDocumentationIs() throws {
        let archive = try PretendedArchive()
        let image = try archive.build("manual")
        #expect(image.manifest.packages == [InstalledPackage.parse("manual 1.2\n")[0]])
        #expect(try archive.debugfs(image, "stat /usr/share/man/man8/own.8").contains("/usr/lib/manual/own.8"))
        #expect(try archive.debugfs(image, "stat /usr/lib/manual/own.8").contains("Type: regular"))
        #expect(try archive.debugfs(image, "stat /usr/share/doc/manual/copyright").contains("Type: regular"))
        for left in ["man/man1/packaged.1", "doc/manual/README", "locale/de/words"] {
            #expect(try !archive.debugfs(image, "stat /usr/share/\(left)").contains("Type: regular"), "\(left)")
        }
    }

    /// What no list has is told before anything is fetched.
    @Test(arguments: [
        ("nosuchpackage", "Unable to locate package nosuchpackage in Debian bookworm"),
        ("manual,nosuch,other", "Unable to locate package nosuch other in Debian bookworm"),
        ("manual=9", "Unable to locate package manual=9 in Debian bookworm"),
    ])
    func unknownPackagesAreToldAtOnce(packages: String, message: String) throws {
        let archive = try PretendedArchive()
        #expect { try archive.build(packages) } throws: {
            guard case ImageError.recipeFailed("image a", message, _) = $0 else { return false }
            return true
        }
        #expect(!Files.exists("\(archive.tools)/bootstrapped"))
    }

    @Test(arguments: ["manual=1.2", "virtual"]) func knownPackagesAreNotHeldUp(packages: String) throws {
        let archive = try PretendedArchive()
        #expect(try archive.build(packages).manifest.requestedPackages == [packages])
    }
}

/// What programs that read foreign bytes may do.
@Suite(.enabled(if: geteuid() == 0, "SKIPPED: only root has something to give up")) struct ConfinementTests {
    private func run(_ arguments: [String], _ script: String) throws -> (end: ChildProcess.End, output: String) {
        let fixture = try Fixture()
        let (recipe, output) = ("\(fixture.path)/confined.sh", "\(fixture.path)/output")
        try Files.write(Recipes.embedded.files["confined.sh"] ?? [], to: recipe)
        let end = try ChildProcess(
            command: ["sh", recipe] + arguments + ["sh", "-c", script], output: output, log: "\(fixture.path)/log"
        ).run()
        return (end, String(decoding: try Files.read(output, lengthMax: 1 << 20), as: UTF8.self))
    }

    @Test func theyAreNobodyWithNothing() throws {
        let (end, output) = try run(
            ["1000000", "10"],
            "id -u; id -G; sed -n 's/^CapEff:\\t*//p; s/^CapBnd:\\t*//p; s/^NoNewPrivs:\\t*//p' /proc/self/status; env | sort | cut -d= -f1"
        )
        #expect(end == .exited(0))
        let lines = output.split(separator: "\n").map(String.init)
        #expect(lines.prefix(5) == ["65534", "65534", "0000000000000000", "0000000000000000", "1"], "\(output)")
        #expect(Set(lines.dropFirst(5)).isSubset(of: ["LC_ALL", "OLDPWD", "PATH", "PWD", "SHLVL", "_"]), "\(output)")
    }

    /// Who reads a tree may read what others own, and no more.
    @Test func readersOfTreesReadOnly() throws {
        let fixture = try Fixture()
        try fixture.write("of root alone", to: "tree/file")
        let file = "\(fixture.path)/tree/file"
        let denied = try run(["1000000", "10"], "cat '\(file)'")
        #expect(denied.output.isEmpty && denied.end != .exited(0))
        let read = try run(["--reads-tree", "1000000", "10"], "cat '\(file)'; echo changed >'\(file)'")
        #expect(read.output == "of root alone" && read.end != .exited(0))
        #expect(try Files.read(file, lengthMax: 100) == Array("of root alone".utf8))
    }

    @Test func theyWriteAndTakeNoMoreThanAllowed() throws {
        let (end, output) = try run(["1000", "10"], "head -c 5000 /dev/zero")
        #expect(end != .exited(0) && output.utf8.count == 1000)
        #expect(try run(["1000000", "1"], "while :; do :; done").end != .exited(0))
    }
}

@Suite struct RecipeLogTests {
    /// As mmdebstrap writes it, when Java's script finds no directory for its manual pages.
    private static let failed = """
        I: installing remaining packages inside the chroot...
        Setting up openjdk-17-jre-headless:amd64 (17.0.13+11-2) ...
        update-alternatives: error: error creating symbolic link '/usr/share/man/man1/java.1.gz.dpkg-tmp': No such file or directory
        dpkg: error processing package openjdk-17-jre-headless:amd64 (--configure):
         installed openjdk-17-jre-headless:amd64 package post-installation script subprocess returned error exit status 2
        Processing triggers for libc-bin (2.36-9) ...
        Errors were encountered while processing:
         openjdk-17-jre-headless:amd64
        E: Sub-process env returned an error code (1)
        E: run_chroot failed: E: apt-get --yes install failed
        I: main() received signal PIPE: waiting for setup...
        mmdebstrap failed
        """

    @Test func thePackageIsNamed() {
        #expect(
            RecipeLog.reason(Self.failed.split(separator: "\n"))
                == "Package openjdk-17-jre-headless cannot be installed: update-alternatives: error: error creating symbolic link "
                + "'/usr/share/man/man1/java.1.gz.dpkg-tmp': No such file or directory; installed openjdk-17-jre-headless:amd64 package "
                + "post-installation script subprocess returned error exit status 2")
        let two = "Errors were encountered while processing:\n a:amd64\n b\nE: x".split(separator: "\n")
        #expect(RecipeLog.reason(two) == "Packages a, b cannot be installed")
        #expect(RecipeLog.reason(["Errors were encountered while processing:"]) == "Errors were encountered while processing:")
    }

    @Test func otherwiseAptsReasonOrTheLastLine() {
        #expect(RecipeLog.reason(["E: Unable to locate package x", "E: apt-get failed", "last"]) == "Unable to locate package x")
        #expect(RecipeLog.reason(["one", "\u{1b}[31mred"]) == "\\x1b[31mred")
        #expect(RecipeLog.reason([]) == nil)
    }

    @Test func stepsAreRead() {
        #expect(RecipeWatch.step(Array("I: downloading packages with apt...".utf8)) == "downloading packages with apt")
        #expect(RecipeWatch.step(Array("I: \u{1b}[2Jclear\u{7}...".utf8)) == "\\x1b[2Jclear\\x07")
        for line in ["I: automatically chosen mode: root", "downloading...", "I: ", "", "I:..."] {
            #expect(RecipeWatch.step(Array(line.utf8)) == nil, "\(line)")
        }
    }
}
