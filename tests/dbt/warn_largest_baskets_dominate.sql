{{ config(severity = 'warn') }}

with

baskets as (

    select
        order_id,
        product_count
    from {{ ref('int_baskets_sized') }}

),

ranked as (

    select
        product_count::bigint * (product_count - 1) // 2 as pair_occurrences,
        row_number() over (order by product_count desc, order_id asc) as size_rank,
        count(*) over () as basket_count
    from baskets

),

largest as (

    select
        sum(pair_occurrences) filter (where size_rank <= basket_count // 1000)
        / nullif(sum(pair_occurrences), 0) as share_of_pair_occurrences
    from ranked

)

select * from largest
where share_of_pair_occurrences > {{ var('largest_baskets_share_warned') }}
