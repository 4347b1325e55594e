"""Verilog of the testbench; `sim.testbench.testbench` fills it in."""

from __future__ import annotations

STROBES = """\
    wire written;
    wire [31:0] written_word;
    wire [{mask_bits}-1:0] written_mask;
    genvar number_of_byte;
    generate for (number_of_byte = 0; number_of_byte < {port_bytes};
                  number_of_byte = number_of_byte + 1) begin : strobes
        assign written_mask[2*number_of_byte +: 2] = {{2{{m_axi_write_wstrb[number_of_byte]}}}};
    end endgenerate"""

TEMPLATE = """\
// Generated: testbench of {top}. The host (Python, or the block at the end with +bare) sets host_*.
module tb;
    reg clk, rst;
    reg host_request, host_write, host_active, host_done;
    reg [11:0] host_address;
    reg [31:0] host_wdata, host_rdata;
    reg running, active, finished, expired, report, reported, prepare, prepared;
    reg [31:0] run_number, output_word, output_words;
    reg [47:0] cycle, max_cycles, {counts};
    wire load = prepare & ~prepared;
    wire memory_fault;
{declarations}

    {top} dut (
{connections}
    );
{memory}
    assign memory_fault = {faults};
{checkers}

    always #5 clk = ~clk;

    // One AXI4-Lite access for each rise of host_request.
    always @(posedge clk) begin
        if (rst) begin
            s_axil_awvalid <= 0;
            s_axil_wvalid <= 0;
            s_axil_bready <= 0;
            s_axil_arvalid <= 0;
            s_axil_rready <= 0;
            host_active <= 0;
            host_done <= 0;
        end else begin
            if (s_axil_awready) s_axil_awvalid <= 0;
            if (s_axil_wready) s_axil_wvalid <= 0;
            if (s_axil_arready) s_axil_arvalid <= 0;
            if (~host_request) host_done <= 0;
            if (host_request & ~host_active & ~host_done) begin
                host_active <= 1;
                s_axil_awaddr <= host_address;
                s_axil_araddr <= host_address;
                s_axil_wdata <= host_wdata;
                s_axil_wstrb <= 4'hf;
                s_axil_awvalid <= host_write;
                s_axil_wvalid <= host_write;
                s_axil_bready <= host_write;
                s_axil_arvalid <= ~host_write;
                s_axil_rready <= ~host_write;
            end
            if ((s_axil_bvalid & s_axil_bready) | (s_axil_rvalid & s_axil_rready)) begin
                s_axil_bready <= 0;
                s_axil_rready <= 0;
                host_rdata <= s_axil_rdata;
                host_active <= 0;
                host_done <= 1;
            end
        end
    end

    // Cycles count from the host's start; one line for every change of the engines.
    integer events, file, number, got;
    reg [8*32-1:0] name;
    reg [{state}:0] last_state;
    reg last_irq;
    wire [{engines}-1:0] busy_now = {busy};
    wire linear_busy = (busy_now & {engines}'d{linear}) != 0;
    wire others_busy = (busy_now & ~{engines}'d{linear}) != 0;
    wire weight_moves = {moves};
    always @(posedge clk) begin
        active <= running;
        prepared <= prepare;
        last_irq <= irq;
        if (load) begin
            cycle <= 0;
            finished <= 0;
            expired <= 0;
            last_state <= 0;
            {{{counts}}} <= 0;
            $sformat(name, "events_%0d.txt", run_number);
            events = $fopen(name, "w");
        end else if (active) begin
            cycle <= cycle + 48'd1;
            // The interrupt of the program before stays until the start.
            if (irq & ~last_irq & ~finished) finished <= 1;
            else if (cycle == max_cycles) begin
                expired <= 1;
                finished <= 1;
            end
            if ({{{busy}, {waiting}}} != last_state || {completed} != 0) begin
                last_state <= {{{busy}, {waiting}}};
                if (~finished)
                    $fwrite(events, "%0d %h %h %h\\n", cycle, {busy}, {waiting}, {completed});
            end
            if (~finished) begin
                linear_cycles <= linear_cycles + {{47'd0, linear_busy}};
                linear_beside_others_cycles <=
                    linear_beside_others_cycles + {{47'd0, linear_busy & others_busy}};
                weight_cycles <= weight_cycles + {{47'd0, weight_moves}};
                weight_beside_linear_cycles <=
                    weight_beside_linear_cycles + {{47'd0, weight_moves & linear_busy}};
            end
            if (cycle[{progress}-1:0] == 0) begin
                file = $fopen("progress.txt", "w");
                $fwrite(file, "%0d %0d\\n", run_number, cycle);
                $fclose(file);
            end
        end
        reported <= report;
        if (report & ~reported) begin
            $fclose(events);
            $sformat(name, "checks_%0d.txt", run_number);
            file = $fopen(name, "w");
{reports}
            $fwrite(file, "activity{activity_format}\\n", {counts});
            $fclose(file);
            $sformat(name, "output_%0d.txt", run_number);
            file = $fopen(name, "w");
            for (number = 0; number < output_words; number = number + 1)
                $fwrite(file, "%h\\n", memory.words[output_word + number]);
            $fclose(file);
        end
    end

    task access(input write, input [11:0] address, input [31:0] data);
        begin
            host_write = write;
            host_address = address;
            host_wdata = data;
            host_request = 1;
            @(posedge host_done) host_request = 0;
            @(negedge host_done);
        end
    endtask

    reg [63:0] program_address;
    reg [31:0] watchdog_limit;
    integer parsed;
    initial begin
        clk = 0;
        rst = 1;
        host_request = 0;
        host_write = 0;
        host_address = 0;
        host_wdata = 0;
        host_rdata = 0;
{tied}
        running = 0;
        active = 0;
        finished = 0;
        expired = 0;
        report = 0;
        reported = 0;
        prepare = 0;
        prepared = 0;
        run_number = 0;
        output_word = 0;
        output_words = 0;
        last_irq = 0;
        cycle = 0;
        last_state = 0;
        {{{counts}}} = 0;
        program_address = 0;
        watchdog_limit = 0;
        max_cycles = {{48{{1'b1}}}};
        parsed = $value$plusargs("max_cycles=%d", max_cycles);
        parsed = $value$plusargs("program=%d", program_address);
        parsed = $value$plusargs("watchdog=%d", watchdog_limit);
`ifdef __ICARUS__
        if ($test$plusargs("waves")) begin
            $dumpfile("waves.fst");
            $dumpvars(0, tb);
        end
`endif
        repeat (8) @(posedge clk);
        rst <= 0;
        if ($test$plusargs("bare")) begin
            prepare = 1;
            @(posedge prepared) prepare = 0;
            access(1, {program}, program_address[31:0]);
            access(1, {program} + 4, program_address[63:32]);
            access(1, {watchdog}, watchdog_limit);
            running = 1;
            access(1, {control}, 1);
            if (~finished) @(posedge finished);
            access(0, {cycles}, 0);
            $display("cycles %0d", host_rdata);
            report = 1;
            repeat (4) @(posedge clk);
            $finish;
        end
    end
endmodule
"""
